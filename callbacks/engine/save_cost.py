"""Estimate how much training time saves cost, measured at batch boundaries."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median, median_low

BATCH_WINDOW, SAVE_WINDOW = 64, 5
"""Number of recent values that are used: enough for a median, few enough to follow a change."""


@dataclass(frozen=True)
class _Boundary:
    """A batch boundary.

    Attributes:
        time: in seconds.
        consecutive: the boundary before was in the same epoch.
    """

    time: float
    epoch: int
    step: int
    consecutive: bool = False


@dataclass
class _SaveInProgress:
    """A save that is being written.

    Attributes:
        started: when the snapshot was submitted, in seconds.
        stall: seconds that the training thread spent on it.
        batches, seconds: batches trained while it is written, and the time that they took.
    """

    started: float
    stall: float
    batches: int = 0
    seconds: float = 0.0


class SaveCostEstimator:
    """Compares batches during which a save was written with other batches. Not thread-safe.

    The cost of a save is the additional time that its batches took, including its stall, and at
    least the stall. Only consecutive batches within an epoch are compared: validation, other
    callbacks and the start of an iterator take time between others. Medians exclude outliers.
    """

    def __init__(self) -> None:
        self._batch_seconds: deque[float] = deque(maxlen=BATCH_WINDOW)
        self._costs: deque[float] = deque(maxlen=SAVE_WINDOW)
        self._last: _Boundary | None = None
        self._save: _SaveInProgress | None = None

    @property
    def cost(self) -> float:
        """Seconds of training that a save costs: the median; before the first, its stall so far."""
        if self._costs:
            return median_low(self._costs)
        return self._save.stall if self._save else 0.0

    def save_started(self, time: float, stall: float) -> None:
        """Record that a save has started.

        Args:
            time: now, in seconds.
            stall: seconds that the training thread has spent on it.
        """
        self._save = _SaveInProgress(time, stall)

    def observe_boundary(self, time: float, epoch: int, step: int, *, busy: bool) -> bool:
        """Record a batch boundary; to be called at each.

        Args:
            time: now, in seconds.
            epoch: the epoch under way.
            step: batches done in the run.
            busy: a save is being written.

        Returns:
            True if a save has ended since the boundary before.
        """
        last = self._last or _Boundary(time, epoch, step)
        consecutive = epoch == last.epoch and step > last.step
        self._last = _Boundary(time, epoch, step, consecutive)
        if consecutive and last.consecutive:
            self._record(time - last.time, step - last.step)
        if self._save is None or busy:
            return False
        self._costs.append(self._cost_of(self._save, time))
        self._save = None
        return True

    def _record(self, seconds: float, batches: int) -> None:
        if self._save is None:
            self._batch_seconds.append(seconds / batches)
        else:
            self._save.batches += batches
            self._save.seconds += seconds

    def _cost_of(self, save: _SaveInProgress, time: float) -> float:
        if not self._batch_seconds:
            return save.stall
        additional = save.seconds - save.batches * median(self._batch_seconds)
        return min(max(save.stall, additional), save.stall + time - save.started)
