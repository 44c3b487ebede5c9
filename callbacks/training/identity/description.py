"""The description of a fit's input that a checkpoint contains, compared before anything is claimed.

It contains what the position in the data and the order of batches depend on. A difference means
that the resumed run would not be the uninterrupted one, or that the position means nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

import tensorflow as tf
from pydantic import BaseModel, ConfigDict, ValidationError

from keepfit.callbacks.training import internals
from keepfit.callbacks.training.identity.inputs import FitInput

_KINDS = {
    "ArrayDataAdapter": "arrays",
    "TFDatasetAdapter": "a tf.data dataset",
    "PyDatasetAdapter": "a PyDataset",
    "GeneratorDataAdapter": "a generator",
}
_PARTS = ("features", "labels", "weights")


class _Description(BaseModel):
    """Fields that are None, if they are numbers, are not known."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    rows: int | None = None
    batch_size: int | None = None
    batches: int | None = None
    element: dict[str, str] | None = None


class ValidationDescription(_Description):
    """The validation data; `steps` and `freq` are the arguments of `fit`."""

    steps: int | None = None
    freq: int | list[int] = 1


class InputDescription(_Description):
    """The input of a fit.

    Attributes:
        kind: in words.
        rows: rows of arrays.
        batch_size: rows of a batch.
        batches: batches of an epoch.
        element: type and shape of each part of a batch, without the size of the batch.
        steps_per_epoch, shuffle: the arguments of `fit`.
        steps_per_execution: batches of a call of the train function, in which positions count.
        replicas: number of replicas that share a batch.
    """

    kind: str
    steps_per_epoch: int | None = None
    steps_per_execution: int = 1
    shuffle: bool | str | None = None
    replicas: int = 1
    validation: ValidationDescription | None = None

    @classmethod
    def of(cls, given: FitInput) -> Self:
        """Describe an input; reads no data."""
        data = given.data
        return cls(
            kind=_KINDS.get(data.adapter, data.adapter),
            rows=_integer(data.rows),
            batch_size=_integer(data.batch_size) or _batch_size_of(given.attributes),
            batches=_integer(data.batches),
            element=dict(_parts(data.element_spec, "")),
            steps_per_epoch=_integer(data.steps_per_epoch),
            steps_per_execution=int(data.steps_per_execution),
            shuffle=data.shuffle if isinstance(data.shuffle, bool | str) else None,
            replicas=given.replicas,
            validation=_validation(given),
        )

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Self | None:
        """Return the description in a manifest's state; None in a checkpoint of keepfit 0.1.

        Raises:
            ValueError: it is not a description; the message is one line.
        """
        if (saved := state.get("input")) is None:
            return None
        try:
            return cls.model_validate(saved)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ValueError(f"its description of the input is invalid: {where}") from None


def input_differences(saved: InputDescription, now: InputDescription) -> list[str]:
    """Return the differences between a checkpoint's input and the present one, as sentences."""
    lines = []
    if saved.kind != now.kind:
        lines.append(f"the input is {now.kind}, the checkpoint was trained with {saved.kind}")
    lines += _numbers("the input", saved, now)
    for name in ("steps_per_epoch", "steps_per_execution", "shuffle"):
        before, current = getattr(saved, name), getattr(now, name)
        if before != current and (saved.kind == now.kind or name != "shuffle"):
            lines.append(f"{name} is {current}, the checkpoint was trained with {before}")
    if saved.replicas != now.replicas:
        lines.append(
            f"{now.replicas} replicas share a batch, the checkpoint was trained with "
            f"{saved.replicas}"
        )
    # The number of batches follows from others, which are named instead.
    if not lines and _differ(saved.batches, now.batches):
        lines.append(f"an epoch has {now.batches} batches, the checkpoint's has {saved.batches}")
    return [*lines, *_validation_differences(saved.validation, now.validation)]


def _validation_differences(
    saved: ValidationDescription | None, now: ValidationDescription | None
) -> list[str]:
    if saved is None or now is None:
        if saved is now:
            return []
        without = "with" if saved else "without"
        state = "given" if now else "not given"
        return [f"validation data is {state}, the checkpoint was trained {without} it"]
    lines = _numbers("the validation data", saved, now)
    for name, before, current in (
        ("validation_steps", saved.steps, now.steps),
        ("validation_freq", saved.freq, now.freq),
    ):
        if before != current:
            lines.append(f"{name} is {current}, the checkpoint was trained with {before}")
    if not lines and _differ(saved.batches, now.batches):
        lines.append(
            f"the validation data has {now.batches} batches, the checkpoint was trained with "
            f"{saved.batches}"
        )
    return lines


def _numbers(name: str, saved: _Description, now: _Description) -> list[str]:
    """Compare what is known of both."""
    lines = []
    if _differ(saved.batch_size, now.batch_size):
        lines.append(
            f"the batch size of {name} is {now.batch_size}, the checkpoint was trained with "
            f"{saved.batch_size}"
        )
    if _differ(saved.rows, now.rows):
        lines.append(f"{name} has {now.rows} rows, the checkpoint was trained with {saved.rows}")
    before, current = saved.element or {}, now.element or {}
    if before and current:
        lines += [
            f"{name} has {current.get(part, 'no')} {part}, the checkpoint was trained with "
            f"{before.get(part, 'no')} {part}"
            for part in sorted({*before, *current})
            if before.get(part) != current.get(part)
        ]
    return lines


def _differ(saved: int | None, now: int | None) -> bool:
    return saved is not None and now is not None and saved != now


def _validation(given: FitInput) -> ValidationDescription | None:
    data = given.data
    if data.validation is None:
        return None
    x, y, weights = data.validation
    asked = data.validation_freq
    steps = _integer(data.validation_steps)
    epochs = sorted(int(epoch) for epoch in asked) if isinstance(asked, Iterable) else []
    freq = asked if isinstance(asked, int) else epochs
    if isinstance(x, tf.data.Dataset):
        count = int(x.cardinality())
        return ValidationDescription(
            batches=count if count >= 0 else None,
            batch_size=internals.batch_size_of_dataset(x),
            element=dict(_parts(x.element_spec, "")),
            steps=steps,
            freq=freq,
        )
    leaves = [leaf for leaf in tf.nest.flatten((x, y, weights)) if hasattr(leaf, "shape")]
    if not leaves or not len(leaves[0].shape):
        return ValidationDescription(steps=steps, freq=freq)
    return ValidationDescription(
        rows=_integer(leaves[0].shape[0]),
        batch_size=_integer(data.validation_batch_size) or 32,
        steps=steps,
        freq=freq,
    )


def _batch_size_of(attributes: Mapping[str, Any]) -> int | None:
    """Return the batch size of a PyDataset that has an attribute of this name."""
    return _integer(attributes.get("batch_size"))


def _integer(value: Any) -> int | None:
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError):
        return None


def _parts(spec: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield the name of each part of a batch, and its type and shape without the first size."""
    match spec:
        case None | tf.OptionalSpec():
            return
        case dict():
            for key in sorted(spec, key=str):
                yield from _parts(spec[key], f"{path}[{key!r}]")
        case tuple() | list() if not path:
            for name, item in zip(_PARTS, spec, strict=False):
                yield from _parts(item, name)
        case tuple() | list():
            for i, item in enumerate(spec):
                yield from _parts(item, f"{path}[{i}]")
        case _:
            yield path or _PARTS[0], _text(spec)


def _text(spec: Any) -> str:
    kind = {tf.RaggedTensorSpec: "ragged ", tf.SparseTensorSpec: "sparse "}.get(type(spec), "")
    shape = getattr(spec, "shape", None)
    if shape is None or not hasattr(spec, "dtype"):
        return type(spec).__name__
    sizes = "of unknown rank" if shape.rank is None else str(shape.as_list()[1:])
    return f"{kind}{spec.dtype.name} {sizes.replace('None', '?')}"
