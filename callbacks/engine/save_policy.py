"""When to save: pure policies over a frozen context."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Protocol

from keepfit.callbacks.engine.save_interval import (
    FIRST_SAVE,
    SaveMeasurements,
    interval_seconds,
)
from keepfit.callbacks.errors import ConfigurationError


@dataclass(frozen=True)
class DecisionContext:
    """A batch boundary, relative to the last save of this attempt, or to its start.

    Attributes:
        seconds, batches, epochs: elapsed since then.
        first: True if this attempt has not saved yet.
        measurements: measurements of this attempt and of those before it.
    """

    seconds: float
    batches: int
    epochs: int
    first: bool
    measurements: SaveMeasurements = field(default_factory=SaveMeasurements)


class SavePolicy(Protocol):
    """Decides at a batch boundary whether to save."""

    def should_save(self, context: DecisionContext) -> bool:
        """Return True if a save is due at this batch boundary."""


@dataclass(frozen=True)
class SaveAutomatically:
    """Save by the clock, at an interval computed from measurements (save_interval.py)."""

    def should_save(self, context: DecisionContext) -> bool:
        return context.seconds >= self.wait(context.measurements, first=context.first)

    def wait(self, measurements: SaveMeasurements, *, first: bool) -> float:
        """Return the seconds from the last save, or from the start, to the next save."""
        return FIRST_SAVE if first else interval_seconds(measurements)


@dataclass(frozen=True)
class SaveEverySeconds:
    """Save by the clock; the first save is early."""

    seconds: float

    def should_save(self, context: DecisionContext) -> bool:
        return context.seconds >= self.wait(context.measurements, first=context.first)

    def wait(self, _: SaveMeasurements, *, first: bool) -> float:
        """Return the seconds from the last save, or from the start, to the next save."""
        return min(FIRST_SAVE, self.seconds) if first else self.seconds


@dataclass(frozen=True)
class SaveEveryBatches:
    """Save after every so many batches."""

    batches: int

    def should_save(self, context: DecisionContext) -> bool:
        return context.batches >= self.batches


@dataclass(frozen=True)
class SaveEveryEpochs:
    """Save at the end of every so many epochs."""

    epochs: int

    def should_save(self, context: DecisionContext) -> bool:
        return context.epochs >= self.epochs


_UNITS = {"ms": 0.001, "s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0}
_NUMBER_AND_UNIT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*")


def parse_duration(text: str) -> float | None:
    """Return the seconds that `text` describes: "30s", "5min", "30"; None if it is no duration."""
    match = _NUMBER_AND_UNIT.fullmatch(text if re.search("[a-z]", text) else f"{text}s")
    number, unit = (float(match[1]), match[2]) if match else (0.0, "")
    return number * _UNITS[unit] if unit in _UNITS and 0 < number < math.inf else None


def parse_save_policy(text: str) -> SavePolicy:
    """Return the policy for `text`: "auto", "30s", "5min", "2h", "200 batches", "1 epoch".

    Raises:
        ConfigurationError: `text` does not describe a policy.
    """
    if text.strip() == "auto":
        return SaveAutomatically()
    match = _NUMBER_AND_UNIT.fullmatch(text)
    number, unit = (float(match[1]), match[2]) if match else (0.0, "")
    whole = number.is_integer()
    if 0 < number < math.inf:
        if unit in _UNITS:
            return SaveEverySeconds(number * _UNITS[unit])
        if unit.removesuffix("es") == "batch" and whole:
            return SaveEveryBatches(int(number))
        if unit.removesuffix("s") == "epoch" and whole:
            return SaveEveryEpochs(int(number))
    raise ConfigurationError(
        'save_every takes "auto", a time ("30s", "5min"), "200 batches" or "1 epoch". '
        f"Received: save_every={text!r}"
    )
