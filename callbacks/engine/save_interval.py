"""The interval between saves with `save_every="auto"`: a pure function of measurements.

Saves that are close together cost training time; saves that are far apart leave more batches to be
trained again. Young's formula, and Daly's more exact one, balance the two from the cost of a save
and the mean time between failures.

The cost of a save is the training time that it takes: the stall of the training thread, and how
much slower batches are while the snapshot is written. The time until a save is durable is no cost,
but no save starts before the last one is durable.

A failure is an attempt that ends without a last save. An attempt that was warned and has saved
loses the same time, whatever the interval. The failure rate has a Gamma prior that is worth one
failure in four hours; after `interruptions` failures in `lived` seconds, its mean is therefore
(1 + interruptions) / (4 h + lived).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

FIRST_SAVE = 10.0
"""Seconds until the first save: 17 percent of real spot instances live less than 5 minutes."""

PRIOR_SECONDS = 4 * 3600.0
"""Seconds in which one failure is expected before anything is measured."""

SHORTEST_INTERVAL, LONGEST_INTERVAL = 30.0, 900.0
"""Limits of the seconds between two saves.

A shorter interval costs money even if no time: three requests to S3 every 30 s are 2 percent of the
price of a machine at 10 cents an hour.
"""

MAX_OVERHEAD = 0.02
"""The share of the training that saves may cost.

For a save that costs more than 18 s, this contradicts LONGEST_INTERVAL, which takes precedence: it
is closer to the formula's result for real spot instances.
"""

UNMEASURED_INTERVAL = 60.0
"""Seconds between two tries while no save has succeeded."""

MATURE_AGE, MINIMUM_AGE, HAZARD_EXPONENT = 3600.0, 180.0, 0.6
"""The risk of real spot instances falls with their age, about as age^-0.6. From MINIMUM_AGE to
MATURE_AGE (seconds), the interval grows with it, up to the one of the run's own failure rate."""

NOTABLE_RATIO = 1.25
"""The factor between two intervals from which the change is logged."""


@dataclass(frozen=True)
class SaveMeasurements:
    """The measurements from which the next save is planned.

    Attributes:
        cost: seconds of training that a save costs.
        durable: seconds from its start until it is durable; None if no save has succeeded.
        interruptions: earlier attempts of the run that have ended without a last save.
        lived: seconds that all attempts of the run have lived, this one included.
        age: seconds that this attempt has lived.
    """

    cost: float = 0.0
    durable: float | None = None
    interruptions: int = 0
    lived: float = 0.0
    age: float = 0.0


@dataclass(frozen=True)
class SaveInterval:
    """The seconds from the start of one save to the start of the next, and the reason."""

    seconds: float
    reason: str

    def differs_from(self, other: SaveInterval | None) -> bool:
        """Return whether the interval differs enough from `other` to be logged."""
        if other is None:
            return True
        low, high = sorted((self.seconds, other.seconds))
        return high > low * NOTABLE_RATIO


def daly_interval(cost: float, between: float) -> float:
    """Return Daly's optimal interval, in seconds from the start of one save to the next start.

    Daly's own formula counts from the end of a save.

    Args:
        cost: seconds of training that a save costs.
        between: mean seconds between failures.
    """
    if cost >= 2 * between:
        return between + cost
    ratio = cost / (2 * between)
    return math.sqrt(2 * cost * between) * (1 + math.sqrt(ratio) / 3 + ratio / 9)


def mean_time_between_failures(measured: SaveMeasurements) -> float:
    """Return the expected seconds to the next failure, for a machine of mature age."""
    return (PRIOR_SECONDS + measured.lived) / (1 + measured.interruptions)


def interval_seconds(measured: SaveMeasurements) -> float:
    """Return the seconds between the starts of two saves."""
    if measured.durable is None:
        return UNMEASURED_INTERVAL
    best = _unbounded_interval(measured)
    return max(
        measured.durable,
        min(LONGEST_INTERVAL, max(SHORTEST_INTERVAL, measured.cost / MAX_OVERHEAD, best)),
    )


def choose_interval(measured: SaveMeasurements) -> SaveInterval:
    """Return the interval of `interval_seconds`, with the reason in words."""
    seconds = interval_seconds(measured)
    if measured.durable is None:
        return SaveInterval(seconds, "no save has succeeded yet")
    limits = {
        measured.durable: "; no save starts before the last one is durable",
        LONGEST_INTERVAL: f"; never further apart than {format_duration(LONGEST_INTERVAL)}",
        SHORTEST_INTERVAL: f"; never closer than {format_duration(SHORTEST_INTERVAL)}",
        measured.cost / MAX_OVERHEAD: "; never more than 2 percent of the training",
        _unbounded_interval(measured): "",
    }
    early = ", and more often in the first hour of a machine" if measured.age < MATURE_AGE else ""
    return SaveInterval(
        seconds,
        f"a save costs {format_duration(measured.cost)} of training and is durable after "
        f"{format_duration(measured.durable)}; an end without a last save is expected once in "
        f"{format_duration(mean_time_between_failures(measured))}{early} "
        f"({measured.interruptions} so far in {format_duration(measured.lived)} of this run)"
        f"{limits[seconds]}",
    )


def format_duration(seconds: float) -> str:
    """Return a duration as users write it: "1 h", "97 min", "85 s", "250 ms"."""
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds == size or seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s" if seconds >= 1 or not seconds else f"{seconds * 1000:.3g} ms"


def _unbounded_interval(measured: SaveMeasurements) -> float:
    """Return the seconds of Daly's interval at the machine's age, without the limits."""
    maturity = min(1.0, max(MINIMUM_AGE, measured.age) / MATURE_AGE)
    between = mean_time_between_failures(measured) * maturity**HAZARD_EXPONENT
    return daly_interval(measured.cost, between)
