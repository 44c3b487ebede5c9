"""The settings of a training that a script may change: which value counts in a resumed fit.

The learning rate lives in a variable, which a checkpoint restores, with all that callbacks have
done to it. Other settings are plain attributes, traced into the train function in each process. The
settings are compared with those at the first start of the fit, so a learning rate that a callback
has changed since is no change of the script.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keepfit.callbacks import events
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.training import internals

log = get_logger()

Plain = bool | int | float | str | None

_IN_VARIABLES = ("learning_rate", "initial_scale")
_NOT_SETTINGS = ("name", "module", "registered_name", "build_config", "shared_object_id")


@dataclass(frozen=True)
class Change:
    """A setting that the script has changed.

    Attributes:
        name: where it stands.
        saved: at the first start; "no" value if it did not exist.
        now: in the script.
        in_variable: the checkpoint's value counts.
    """

    name: str
    saved: Any
    now: Any
    in_variable: bool

    def __str__(self) -> str:
        before = f"{self.name} is {self.now} in the script, and was {self.saved} in the checkpoint"
        return f"{before}, which counts" if self.in_variable else f"{before}; the script's counts"


def hyperparameters(model: keras.Model, class_weight: Any = None) -> dict[str, Plain]:
    """Return the settings of the model, its optimizers and its loss, as plain values by name."""
    settings = dict(_flat("class_weight", class_weight))
    for name, value in vars(model).items():
        if isinstance(value, keras.optimizers.Optimizer):
            settings.update(_flat(name, _config(value)))
    loss = getattr(model, "loss", None)
    is_object = isinstance(loss, keras.losses.Loss)
    settings.update(_flat("loss", _config(loss) if is_object else loss))
    settings.update(_flat("loss_weights", internals.loss_weights_of(model)))
    for i, layer in enumerate(internals.layers_of(model)):
        name = f"layer {i} ({type(layer).__name__})" if i else "model"
        settings.update(_settings_of_layer(name, layer))
    return settings


def changes(saved: Any, now: Mapping[str, Plain]) -> list[Change]:
    """Return what differs from the settings in a checkpoint, in the order of the script."""
    if not isinstance(saved, Mapping):
        return []
    names = [*now, *(name for name in saved if name not in now)]
    return [
        Change(name, saved.get(name), now.get(name), name.endswith(_IN_VARIABLES))
        for name in names
        if saved.get(name) != now.get(name)
    ]


def merged(saved: Any, now: Mapping[str, Plain]) -> dict[str, Plain]:
    """Return the settings that the next checkpoints contain: those with which training goes on."""
    kept = {change.name: change.saved for change in changes(saved, now) if change.in_variable}
    return {**now, **kept}


def check(found: list[Change], guard: ExactnessGuard) -> None:
    """Refuse a training with changed settings if it has to be exact.

    Raises:
        Refused: see ExactnessGuard.
    """
    if found and guard.refusing:
        guard.report(events.HYPERPARAMETER_CHANGED, reason=_reason(found), fix="undo the change")


def report(found: list[Change]) -> None:
    """Log the changed settings of a fit that resumes."""
    if found:
        in_variable = any(change.in_variable for change in found)
        schedule = (
            "to change the checkpoint's value, set it in a callback when an epoch begins, as "
            "keras.callbacks.LearningRateScheduler does (after on_train_begin it is restored); or "
        )
        log.warning(
            events.HYPERPARAMETER_CHANGED,
            reason=_reason(found),
            fix=f"{schedule if in_variable else ''}undo the change, or start a new run with "
            "--run NAME or --fresh",
        )


def _reason(found: list[Change]) -> str:
    return "; ".join(map(str, found))


def _settings_of_layer(name: str, layer: Any) -> Iterator[tuple[str, Plain]]:
    """Yield the numbers of a layer, such as a rate, and those of its regularizers."""
    for attribute, value in vars(layer).items():
        if attribute.startswith("_"):
            continue
        if isinstance(value, float):
            yield f"{name}.{attribute}", value
        elif isinstance(value, keras.regularizers.Regularizer):
            yield from _flat(f"{name}.{attribute}", _config(value))


def _config(value: Any) -> Any:
    """Return the configuration of one of Keras' objects; its class alone if it has none."""
    try:
        return {"class": type(value).__name__, **value.get_config()}
    except Exception:  # noqa: BLE001 # get_config may be the user's, and may raise anything
        return {"class": type(value).__name__}


def _flat(name: str, value: Any) -> Iterator[tuple[str, Plain]]:
    """Yield the plain values of a nest, without what Keras numbers or adds itself."""
    match value:
        case np.generic() | np.ndarray() if value.ndim == 0:
            yield from _flat(name, value.item())
        case float() if name.endswith("learning_rate"):
            yield name, float(str(np.float32(value)))  # it has been a float32 variable
        case None | bool() | int() | float() | str():
            yield name, value
        case Mapping():
            inner = value.get("config") if "class_name" in value else None
            if isinstance(inner, Mapping):
                yield from _flat(name, {"class": value["class_name"], **inner})
                return
            for key, item in value.items():
                if key not in _NOT_SETTINGS:
                    yield from _flat(f"{name}.{key}", item)
        case list() | tuple():
            for i, item in enumerate(value):
                yield from _flat(f"{name}[{i}]", item)
        case _ if callable(value):
            yield name, getattr(value, "__name__", type(value).__name__)
