"""What can stop a `fit` before its last epoch, and how it is configured: plain values.

The final state of a fit contains them, so that a later attempt can tell whether the script asks for
another end of the training.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import keras
import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from keepfit.callbacks.adapters.base import HeldCallback
from keepfit.callbacks.adapters.registry import ADAPTERS

Plain = bool | int | float | str | None

EARLY_STOPPING_CONFIG = (
    "monitor",
    "mode",
    "min_delta",
    "patience",
    "baseline",
    "start_from_epoch",
)
"""The attributes of EarlyStopping that decide when it stops."""

_INHERITED = frozenset(vars(keras.callbacks.Callback()))


class StoppingCallback(BaseModel):
    """A callback that can stop a fit.

    Attributes:
        name: name of its class.
        config: its plain attributes that training has not changed.
        early_stopping: it is Keras' EarlyStopping, so that it is known what each of them means.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    config: dict[str, Plain]
    early_stopping: bool = False


class StoppingRecord(BaseModel):
    """What could stop a finished fit, as its final state contains it.

    Attributes:
        by: names of the classes of which one has stopped it, as far as that can be told.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    by: list[str]
    callbacks: list[StoppingCallback]

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> StoppingRecord | None:
        """Return the record in a manifest's state; None if there is no valid one (keepfit 0.1)."""
        try:
            return cls.model_validate(state.get("stopping"))
        except ValidationError:
            return None


class Effect(Enum):
    """What a change of a callback that can stop a fit means for its end."""

    LATER = auto()
    """It can only end later, and is the same until then."""
    EARLIER = auto()
    """It may have ended earlier."""
    OTHER = auto()
    """It may have ended earlier or later."""
    UNKNOWN = auto()
    """Only the callback knows."""


@dataclass(frozen=True)
class StoppingChange:
    """A difference between the callbacks that could stop a fit and those that can stop it now.

    Attributes:
        name: name of the callback's class.
        what: for people: "patience was 1 and is 4".
    """

    name: str
    what: str
    effect: Effect

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"


def stopping_callbacks(held: Iterable[HeldCallback]) -> list[StoppingCallback]:
    """Return the callbacks that can stop a fit, with their present configuration.

    Those of Keras can't, except EarlyStopping. TerminateOnNaN stops within an epoch, which is not
    asked again.
    """
    found = (_stopping(one) for one in held)
    return [one for one in found if one]


def stopping_record(
    held: Iterable[HeldCallback], before: Sequence[StoppingCallback], *, stopped: bool
) -> StoppingRecord:
    """Return the record of a fit that has ended.

    Args:
        before: what `stopping_callbacks` returned when the fit began.
        stopped: `stop_training` is set.
    """
    held = list(held)
    after = stopping_callbacks(held)
    callbacks = [_unchanged(one, now) for one, now in zip(before, after, strict=True)]
    early = [one.name for one in held if getattr(one.callback, "stopped_epoch", 0)]
    by = (early or [one.name for one in after if not one.early_stopping]) if stopped else []
    return StoppingRecord(by=list(dict.fromkeys(by)), callbacks=callbacks)


def stopping_changes(
    record: StoppingRecord, present: Sequence[StoppingCallback]
) -> list[StoppingChange]:
    """Return how the callbacks that can stop a fit differ from those that were recorded.

    They are matched by class, and then by their order in it. A change of a callback that has not
    stopped the fit, and of which only the callback knows what it means, is left out.
    """
    waiting: dict[str, list[StoppingCallback]] = defaultdict(list)
    for one in present:
        waiting[one.name].append(one)
    changes: list[StoppingChange] = []
    for before in record.callbacks:
        if waiting[before.name]:
            changes += _config_changes(before, waiting[before.name].pop(0))
        else:
            changes.append(StoppingChange(before.name, "no longer there", Effect.LATER))
    changes += [
        StoppingChange(one.name, "new", Effect.EARLIER if one.early_stopping else Effect.UNKNOWN)
        for rest in waiting.values()
        for one in rest
    ]
    known = (Effect.EARLIER, Effect.OTHER)
    return [one for one in changes if one.effect in known or one.name in record.by]


def _stopping(held: HeldCallback) -> StoppingCallback | None:
    kind = type(held.callback)
    if kind is keras.callbacks.EarlyStopping:
        config = _plain_attributes(held.callback, EARLY_STOPPING_CONFIG)
        # Keras turns the sign around in the first epoch, if less is better.
        config["min_delta"] = abs(getattr(held.callback, "min_delta", 0.0))
        return StoppingCallback(name=held.name, config=config, early_stopping=True)
    if held.own is None and held.adapter in ADAPTERS.values():
        return None
    return StoppingCallback(name=held.name, config=_plain_attributes(held.callback))


def _plain_attributes(callback: Any, names: Sequence[str] | None = None) -> dict[str, Plain]:
    own = {
        name: _plain(value)
        for name, value in vars(callback).items()
        if (name not in _INHERITED if names is None else name in names)
    }
    return {name: value for name, value in own.items() if value is not ...}


def _plain(value: Any) -> Any:
    """Return a plain value that JSON can contain; an Ellipsis for any other."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value if value is None or isinstance(value, bool | int | float | str) else ...


def _unchanged(before: StoppingCallback, now: StoppingCallback) -> StoppingCallback:
    """Return the configuration before a fit, without the attributes that training has changed."""
    config = {n: v for n, v in before.config.items() if _same(now.config.get(n, ...), v)}
    return before.model_copy(update={"config": config})


def _config_changes(before: StoppingCallback, now: StoppingCallback) -> list[StoppingChange]:
    changed = [
        (name, old, now.config.get(name, ...))
        for name, old in before.config.items()
        if not _same(now.config.get(name, ...), old)
    ]
    return [
        StoppingChange(
            before.name,
            f"{name} was {old!r} and is {'gone' if new is ... else repr(new)}",
            _effect(before, name, old, new),
        )
        for name, old, new in changed
    ]


def _effect(before: StoppingCallback, name: str, old: Any, new: Any) -> Effect:
    if not before.early_stopping:
        return Effect.UNKNOWN
    # The state of EarlyStopping does not depend on its patience, until it stops.
    if name == "patience" and isinstance(new, int | float):
        return Effect.LATER if new > old else Effect.EARLIER
    return Effect.OTHER


def _same(one: Any, other: Any) -> bool:
    return bool(type(one) is type(other) and one == other)
