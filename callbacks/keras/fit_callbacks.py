"""The callbacks that Resumable calls in one `fit`: those inside it, and those that stand beside it.

A library adds callbacks of its own to those of the script (keras-tuner's checkpoint). They have
state and files too, so Resumable takes them out of Keras' list and calls them itself.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras

from keepfit.callbacks import events
from keepfit.callbacks.adapters.held_callbacks import HeldCallbacks
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.training.internals import JoinsFits

log = get_logger()

Callbacks = Sequence[keras.callbacks.Callback]

_OF_KERAS = (keras.callbacks.History, keras.callbacks.ProgbarLogger)
"""Keras adds these itself, and they show all epochs and batches of a `fit`, also skipped ones."""


@dataclass(frozen=True)
class FitCallbacks:
    """Callbacks with their adapters, in the order in which they are called.

    Attributes:
        held: the callbacks with the adapters that keep their state and files.
        taken_from: Keras' list from which those beside Resumable were taken.
    """

    callbacks: Callbacks
    held: HeldCallbacks
    taken_from: weakref.ref[Any] | None = field(default=None, compare=False)

    @classmethod
    def inside(cls, callbacks: Callbacks, guard: ExactnessGuard) -> FitCallbacks:
        """Return the callbacks inside Resumable. Call this before training changes any."""
        return cls(callbacks, HeldCallbacks.hold(callbacks, guard))

    def with_beside(
        self, fit: keras.callbacks.CallbackList, resumable: Any, guard: ExactnessGuard
    ) -> FitCallbacks:
        """Take the callbacks beside Resumable out of Keras' list, and return all, in their order.

        Args:
            fit: the list that a `fit` creates. No callback has seen a hook of it, so the order of
                all calls is that of a `fit` with the same callbacks and without Resumable.
            resumable: the callback that stands for those inside it.
        """
        # Keras has just made this list from the argument of `fit`, which is not changed.
        at = next(i for i, callback in enumerate(fit.callbacks) if callback is resumable)
        before, after = _beside(fit.callbacks[:at]), _beside(fit.callbacks[at + 1 :])
        fit.callbacks[:] = [c for c in fit.callbacks if not _is_beside(c)]
        before, after = without_redundant(before), without_redundant(after)
        held = (
            *HeldCallbacks.hold(before, guard),
            *self.held,
            *HeldCallbacks.hold(after, guard),
        )
        return FitCallbacks(
            [*before, *self.callbacks, *after], replace(self.held, callbacks=held), weakref.ref(fit)
        )

    def are_of(self, fit: Any) -> bool:
        """Return whether those beside Resumable were taken from this list of Keras."""
        return self.taken_from is not None and self.taken_from() is fit


def report_left(fit: keras.callbacks.CallbackList, resumable: Any) -> Callbacks:
    """Return the callbacks that could not be taken out of Keras' list; name them in the log.

    The script has made that list itself, and Keras has called hooks of it already.
    """
    if not any(callback is resumable for callback in fit.callbacks):
        return []  # inside another callback, which stands for it in the list
    left = _beside(fit.callbacks)
    for callback in filter(is_redundant, left):
        _report_redundant()
        _disable(callback)
    others = [type(callback).__name__ for callback in left if not is_redundant(callback)]
    if others:
        log.warning(
            events.CALLBACK_OUTSIDE,
            callbacks=others,
            reason="they are in a CallbackList of the script, so their state is not kept, and "
            "they see the skipped batches of a resumed epoch once more",
            fix="pass fit a list of callbacks, or put them inside Resumable",
        )
    return left


def without_redundant(callbacks: Callbacks) -> list[keras.callbacks.Callback]:
    """Return the callbacks that Resumable does not replace; name the others in the log."""
    kept = [callback for callback in callbacks if not is_redundant(callback)]
    if len(kept) < len(callbacks):
        _report_redundant()
    return kept


def is_redundant(callback: Any) -> bool:
    """Return whether Resumable does all that the callback does."""
    return isinstance(callback, keras.callbacks.BackupAndRestore)


def _beside(callbacks: Callbacks) -> list[keras.callbacks.Callback]:
    return [callback for callback in callbacks if _is_beside(callback)]


def _is_beside(callback: Any) -> bool:
    return not isinstance(callback, (*_OF_KERAS, JoinsFits))


def _report_redundant() -> None:
    log.warning(
        events.CALLBACK_REDUNDANT,
        callback="BackupAndRestore",
        reason="Resumable saves and restores all that it does, so it is disabled",
        fix="remove it from the script",
    )


def _disable(callback: keras.callbacks.Callback) -> None:
    """Disable BackupAndRestore, which sets the initial epoch and the weights, as Resumable does."""
    for hook in ("on_train_begin", "on_train_batch_end", "on_epoch_end", "on_train_end"):
        setattr(callback, hook, lambda *_, **__: None)
