"""A finished fit that is asked for again: whether it trains on, and from where.

The final state of a fit is captured after the callbacks' `on_train_end`: EarlyStopping has restored
weights, SwapEMAWeights has swapped them. So beside it, each finished fit keeps its continuation:
the checkpoint that an interruption after the last batch would have left. The last epoch's
`on_epoch_end` is then called once more, and decides anew whether training stops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from keepfit.callbacks.adapters.stopping import (
    Effect,
    StoppingCallback,
    StoppingChange,
    StoppingRecord,
    stopping_changes,
)
from keepfit.callbacks.checkpoint.format.manifest import Manifest
from keepfit.callbacks.checkpoint.snapshot import Snapshot


class Further(Enum):
    """What becomes of a finished fit."""

    AS_IT_IS = auto()
    """Nothing else is asked for."""
    FEWER = auto()
    """Fewer epochs are asked for than are done."""
    EARLIER = auto()
    """The callbacks might have stopped it earlier, as they are now."""
    STAYS_STOPPED = auto()
    """More epochs are asked for, but a callback has stopped it, and is the same now."""
    TRAINS_ON = auto()
    """More epochs are asked for."""
    DECIDES_ANEW = auto()
    """A callback has stopped it, and might not do so as it is now."""
    UNKNOWABLE = auto()
    """It would have to train on, but would have been another training before."""


@dataclass(frozen=True)
class Decision:
    """What becomes of a finished fit, and why.

    Attributes:
        changes: how the callbacks that can stop a fit have changed.
        by: what has stopped the fit.
    """

    further: Further
    changes: Sequence[StoppingChange] = ()
    by: str = ""

    @property
    def trains(self) -> bool:
        """True if the fit is to be continued."""
        return self.further in (Further.TRAINS_ON, Further.DECIDES_ANEW)


def decide(final: Manifest, epochs: int, stopping: Sequence[StoppingCallback]) -> Decision:
    """Decide what becomes of a finished fit that is asked for again.

    Args:
        final: the manifest of its final state.
        epochs: the argument of `fit`.
        stopping: the callbacks that can stop it now.
    """
    position, record = final.position, StoppingRecord.of(final.state)
    changes = stopping_changes(record, stopping) if record else []
    by = " or ".join(record.by if record else []) or "a callback"
    more, stopped = epochs > position.epoch + 1, bool(final.state.get("stop_training"))
    if position.epoch >= epochs:
        return Decision(Further.FEWER)
    effects = {change.effect for change in changes}
    if Effect.OTHER in effects:
        return Decision(Further.UNKNOWABLE if more or stopped else Further.EARLIER, changes)
    if Effect.EARLIER in effects:
        return Decision(Further.UNKNOWABLE if more and not stopped else Further.EARLIER, changes)
    if not stopped:
        return Decision(Further.TRAINS_ON if more else Further.AS_IT_IS)
    if changes:
        return Decision(Further.DECIDES_ANEW, changes, by)
    return Decision(Further.STAYS_STOPPED if more else Further.AS_IT_IS, by=by)


def wants_more(manifest: Manifest, epochs: int, stopping: Sequence[StoppingCallback]) -> bool:
    """Return whether a finished fit is asked for more than it has done.

    Args:
        manifest: that of its final state.
        epochs, stopping: as for `decide`.
    """
    return manifest.position.finished and decide(manifest, epochs, stopping).trains


class EpochEnd:
    """The snapshot after the last batch of the epoch under way, in case the epoch is the last.

    Whether it was is known only after `on_epoch_end`, so it is captured before that. It costs no
    copy as long as nothing writes the variables, and it is dropped when the next epoch begins.

    Args:
        may_stop: a callback can stop the fit in any epoch. Otherwise only the last one can be it.
    """

    def __init__(self, *, may_stop: bool) -> None:
        self._may_stop = may_stop
        self._snapshot: Snapshot | None = None

    def epoch_begins(self) -> None:
        """Drop the snapshot of the epoch before."""
        self._snapshot = None

    def validation_begins(self, snapshot: Snapshot) -> None:
        """Keep the snapshot before a validation, which is that after the last batch as well."""
        self._snapshot = snapshot

    def epoch_ends(self, capture: Callable[[], Snapshot], *, is_last: bool, stopped: bool) -> None:
        """Capture the state before the callbacks' `on_epoch_end`, unless that has been done.

        Args:
            is_last: no further epoch is asked for.
            stopped: a callback has stopped training within the epoch, which is final.
        """
        if stopped:
            self._snapshot = None
        elif self._snapshot is None and (is_last or self._may_stop):
            self._snapshot = capture()

    def take(self) -> Snapshot | None:
        """Return and release the snapshot; None if the fit has ended at another moment."""
        snapshot, self._snapshot = self._snapshot, None
        return snapshot
