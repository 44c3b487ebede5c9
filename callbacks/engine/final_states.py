"""Which final states of finished fits are kept: those that the script may look at again."""

from __future__ import annotations

from typing import Any, Protocol


class FinishedFit(Protocol):
    """A finished fit whose final state the script may read."""

    @property
    def index(self) -> int:
        """Number of the fit."""

    def end_watch(self) -> bool:
        """Stop watching; return whether the final state was read, or may have been."""

    def released_by(self, model: Any) -> bool:
        """Return whether nothing can read the final state once `model` is trained."""


class FinalStates:
    """The final states of the finished fits of a run.

    Used on the training thread, except for `released_at`, which any thread may call.

    Args:
        keep: number of the newest finished fits whose final state is kept in any case.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._finished: FinishedFit | None = None
        self._releasable: frozenset[int] = frozenset()
        self._all_are_kept = False

    @property
    def newest(self) -> FinishedFit | None:
        """The fit that was finished last, until the next one begins."""
        return self._finished

    def fit_finished(self, fit: FinishedFit) -> None:
        """Record a finished fit, whose final state the script may read from now on."""
        self._finished = fit

    def next_fit_trains(self, model: Any) -> None:
        """Release the final state of the fit before if nothing can read it any more.

        A script that has read one final state is expected to read others: all are kept then.
        """
        finished, self._finished = self._finished, None
        if finished is None:
            return
        self._all_are_kept = finished.end_watch() or self._all_are_kept
        if finished.released_by(model) and not self._all_are_kept:
            self._releasable |= {finished.index}

    def released_at(self, fit: int) -> frozenset[int]:
        """Return the fits whose final states may be dropped with a save of the fit `fit`."""
        return frozenset(index for index in self._releasable if index < fit - self._keep)
