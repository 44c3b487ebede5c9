"""What saves cost the training, measured at its batch boundaries."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median, median_low

BATCH_WINDOW, SAVE_WINDOW = 64, 5
"""How many of the latest are looked at: enough for a median, few enough to follow a change."""


@dataclass(frozen=True)
class _Boundary:
    """Where training was, and whether it came straight from the boundary before."""

    time: float
    epoch: int
    step: int
    straight: bool = False


@dataclass
class _SaveInProgress:
    """One that is being written: the batches since it began, and the seconds that they took."""

    began: float
    stall: float
    batches: int = 0
    seconds: float = 0.0


class SaveCostEstimator:
    """Compares batches during which a save was written with the usual ones. For one thread.

    A save costs what its batches took longer, its stall included, and at least the stall. Only
    batches that follow each other within an epoch are compared: between others lie validation,
    other callbacks, and the start of an iterator. Medians keep out what happens to be slow.
    """

    def __init__(self) -> None:
        self._usual: deque[float] = deque(maxlen=BATCH_WINDOW)
        self._costs: deque[float] = deque(maxlen=SAVE_WINDOW)
        self._last: _Boundary | None = None
        self._save: _SaveInProgress | None = None

    @property
    def cost(self) -> float:
        """Seconds of training that a save costs: the median, or what the first one has so far."""
        if self._costs:
            return median_low(self._costs)
        return self._save.stall if self._save else 0.0

    def begins(self, time: float, stall: float) -> None:
        """A save begins to be written; the training thread has spent `stall` seconds on it."""
        self._save = _SaveInProgress(time, stall)

    def passes(self, time: float, epoch: int, step: int, *, busy: bool) -> bool:
        """At each boundary.

        Args:
            busy: a save is being written.

        Returns:
            Whether a save has ended since the boundary before.
        """
        last = self._last or _Boundary(time, epoch, step)
        straight = epoch == last.epoch and step > last.step
        self._last = _Boundary(time, epoch, step, straight)
        if straight and last.straight:
            self._count(time - last.time, step - last.step)
        if self._save is None or busy:
            return False
        self._costs.append(self._price(self._save, time))
        self._save = None
        return True

    def _count(self, seconds: float, batches: int) -> None:
        if self._save is None:
            self._usual.append(seconds / batches)
        else:
            self._save.batches += batches
            self._save.seconds += seconds

    def _price(self, save: _SaveInProgress, time: float) -> float:
        if not self._usual:
            return save.stall
        longer = save.seconds - save.batches * median(self._usual)
        return min(max(save.stall, longer), save.stall + time - save.began)
