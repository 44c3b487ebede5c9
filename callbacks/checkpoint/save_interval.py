"""How far apart saves are with `save_every="auto"`: a pure rule over what was measured.

Two saves that are close together cost training time, two that are far apart leave more to be
repeated. Young's formula, and Daly's more exact one, balance the two from the cost of a save and
the mean time between failures.

What a save costs is what the training loses by it: the stall of its own thread, and how much slower
it is while the snapshot is written. The time until a save is durable is no cost, but no save begins
before the last one is durable.

What counts as a failure is an attempt that ends without a last save. One that was warned and has
saved loses the same, whatever the interval. Failures are taken to come at a rate whose prior is a
Gamma distribution worth one failure in four hours; so after `ends` failures in `lived` seconds its
mean is (1 + ends) / (4 h + lived).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

FIRST_SAVE = 10.0
"""Seconds until the first save: 17 percent of real spot instances live less than 5 minutes."""

PRIOR_SECONDS = 4 * 3600.0
"""Seconds in which one failure is expected before anything is measured."""

SHORTEST_INTERVAL, LONGEST_INTERVAL = 30.0, 900.0
"""Seconds between two saves.

Closer ones cost money, if no time: three requests to S3 every 30 s are 2 percent of the price of a
machine at 10 cents an hour.
"""

MAX_OVERHEAD = 0.02
"""The share of the training that saves may cost.

For a save that costs more than 18 s, this and LONGEST contradict each other; LONGEST holds, which
is then the nearer to what the formula says for real spot instances.
"""

UNMEASURED_INTERVAL = 60.0
"""Seconds between two tries while none has succeeded."""

MATURE_AGE, MINIMUM_AGE, HAZARD_EXPONENT = 3600.0, 180.0, 0.6
"""Of real spot instances, the risk falls with their age: about as age^-0.6, which is how the
interval gets to what the run's own rate says. Up to three minutes of age it stays the same."""

NOTABLE_RATIO = 1.25
"""By which factor an interval differs from another so that people want to know."""


@dataclass(frozen=True)
class SaveMeasurements:
    """What is known when the next save is planned.

    Attributes:
        cost: seconds of training that a save costs.
        durable: seconds from its beginning until it is safe; None if none has succeeded.
        interruptions: attempts of the run before this one that have ended without a last save.
        lived: seconds that the run's attempts have lived, this one included.
        age: seconds that this one has lived.
    """

    cost: float = 0.0
    durable: float | None = None
    interruptions: int = 0
    lived: float = 0.0
    age: float = 0.0


@dataclass(frozen=True)
class SaveInterval:
    """Seconds from the beginning of one save to the next one's, and why."""

    seconds: float
    reason: str

    def differs_from(self, other: SaveInterval | None) -> bool:
        """Whether it is worth a line in the log after `other`."""
        if other is None:
            return True
        low, high = sorted((self.seconds, other.seconds))
        return high > low * NOTABLE_RATIO


def daly_interval(cost: float, between: float) -> float:
    """The best interval for saves of this cost, with so many seconds between failures on average.

    From the beginning of a save to the beginning of the next; Daly counts from its end.
    """
    if cost >= 2 * between:
        return between + cost
    ratio = cost / (2 * between)
    return math.sqrt(2 * cost * between) * (1 + math.sqrt(ratio) / 3 + ratio / 9)


def mean_time_between_failures(measured: SaveMeasurements) -> float:
    """Seconds to the next failure that are expected of a machine that has grown up."""
    return (PRIOR_SECONDS + measured.lived) / (1 + measured.interruptions)


def interval_seconds(measured: SaveMeasurements) -> float:
    """How far apart saves are to be."""
    if measured.durable is None:
        return UNMEASURED_INTERVAL
    best = _unbounded_interval(measured)
    return max(
        measured.durable,
        min(LONGEST_INTERVAL, max(SHORTEST_INTERVAL, measured.cost / MAX_OVERHEAD, best)),
    )


def choose_interval(measured: SaveMeasurements) -> SaveInterval:
    """The same, in words as well."""
    seconds = interval_seconds(measured)
    if measured.durable is None:
        return SaveInterval(seconds, "no save has succeeded yet")
    limits = {
        measured.durable: "; no save begins before the last one is durable",
        LONGEST_INTERVAL: f"; never further apart than {format_duration(LONGEST_INTERVAL)}",
        SHORTEST_INTERVAL: f"; never closer than {format_duration(SHORTEST_INTERVAL)}",
        measured.cost / MAX_OVERHEAD: "; never more than 2 percent of the training",
        _unbounded_interval(measured): "",
    }
    young = ", and more often in the first hour of a machine" if measured.age < MATURE_AGE else ""
    return SaveInterval(
        seconds,
        f"a save costs {format_duration(measured.cost)} of training and is durable after "
        f"{format_duration(measured.durable)}; an end without a last save is expected once in "
        f"{format_duration(mean_time_between_failures(measured))}{young} "
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
    youth = min(1.0, max(MINIMUM_AGE, measured.age) / MATURE_AGE)
    between = mean_time_between_failures(measured) * youth**HAZARD_EXPONENT
    return daly_interval(measured.cost, between)
