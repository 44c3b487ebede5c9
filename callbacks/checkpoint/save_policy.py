"""When to save: pure policies over a frozen context."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Protocol

from keepfit.callbacks.checkpoint.save_interval import (
    FIRST_SAVE,
    SaveMeasurements,
    interval_seconds,
)
from keepfit.callbacks.errors import ConfigurationError


@dataclass(frozen=True)
class DecisionContext:
    """A batch boundary, measured against the last save of this attempt, or against its start.

    Attributes:
        seconds, batches, epochs: passed since then.
        first: nothing has been saved yet.
        known: what was measured, of this attempt and those before it.
    """

    seconds: float
    batches: int
    epochs: int
    first: bool
    known: SaveMeasurements = field(default_factory=SaveMeasurements)


class SavePolicy(Protocol):
    """Decides whether a save is due."""

    def due(self, moment: DecisionContext) -> bool: ...


@dataclass(frozen=True)
class SaveAutomatically:
    """By the clock, at an interval that follows from what was measured (interval.py)."""

    def due(self, moment: DecisionContext) -> bool:
        return moment.seconds >= self.wait(moment.known, first=moment.first)

    def wait(self, known: SaveMeasurements, *, first: bool) -> float:
        """Seconds from the last save, or from the start, to the next one."""
        return FIRST_SAVE if first else interval_seconds(known)


@dataclass(frozen=True)
class SaveEverySeconds:
    """By the clock; the first save comes early."""

    seconds: float

    def due(self, moment: DecisionContext) -> bool:
        return moment.seconds >= self.wait(moment.known, first=moment.first)

    def wait(self, _: SaveMeasurements, *, first: bool) -> float:
        """Seconds from the last save, or from the start, to the next one."""
        return min(FIRST_SAVE, self.seconds) if first else self.seconds


@dataclass(frozen=True)
class SaveEveryBatches:
    """By the number of batches trained."""

    batches: int

    def due(self, moment: DecisionContext) -> bool:
        return moment.batches >= self.batches


@dataclass(frozen=True)
class SaveEveryEpochs:
    """At the end of every so many epochs."""

    epochs: int

    def due(self, moment: DecisionContext) -> bool:
        return moment.epochs >= self.epochs


_UNITS = {"ms": 0.001, "s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0}
_FORM = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*")


def parse_duration(text: str) -> float | None:
    """The time that `text` describes: "30s", "5min", "30"; None if it describes none."""
    match = _FORM.fullmatch(text if re.search("[a-z]", text) else f"{text}s")
    number, unit = (float(match[1]), match[2]) if match else (0.0, "")
    return number * _UNITS[unit] if unit in _UNITS and 0 < number < math.inf else None


def parse_save_policy(text: str) -> SavePolicy:
    """The schedule that `text` describes: "auto", "30s", "5min", "2h", "200 batches", "1 epoch".

    Raises:
        ConfigurationError: it describes none.
    """
    if text.strip() == "auto":
        return SaveAutomatically()
    match = _FORM.fullmatch(text)
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
