"""The state of a fit's inputs beside its position in an epoch of training.

Two things outlive an epoch: the validation data, which may shuffle anew each time, and the data of
a finished fit, which the script may use for another fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from keepfit.callbacks import events
from keepfit.callbacks.adapters.base import State
from keepfit.callbacks.checkpoint.format.limits import Count
from keepfit.callbacks.checkpoint.format.state_schema import check_fields
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.training import internals
from keepfit.callbacks.training.data.py_dataset import PyDatasetState
from keepfit.callbacks.training.data.shuffles import Counts, Shuffles

_FIELDS = {"train": list[Count | None], "validation": list[Count | None], "own": Any}


class FitInputs:
    """The inputs of one `fit`, as far as they change from one epoch or fit to the next.

    Attributes:
        after_batch: the process's random state after the last batch, if the validation data may
            draw from it before the hooks of the validation are called.
    """

    def __init__(self, train: Any, validation: Any, guard: ExactnessGuard) -> None:
        """Find what can change.

        Args:
            train, validation: the data as the script has given it; None for none.
            guard: receives the exactness warnings.

        Raises:
            Refused: the validation data can't be kept, and the training has to be exact.
        """
        self._guard = guard
        validation = internals.undistributed(validation)
        self._train = Shuffles(train)
        self._validation = Shuffles(validation)
        is_indexed = isinstance(validation, keras.utils.PyDataset) and validation is not train
        self._indexed = PyDatasetState(validation if is_indexed else None, guard)
        self._follows_batches = is_indexed and not isinstance(train, keras.utils.PyDataset)
        self._indexed.epoch_begins()
        self._counts: Counts | None = None
        self._report(validation)

    @property
    def after_batch(self) -> State | None:
        return self._indexed.after_batch

    def batch_ends(self) -> None:
        """Called after each batch of the training."""
        if self._follows_batches:
            self._indexed.batch_ends()

    def epoch_begins(self) -> None:
        """Called when an epoch of the training begins, and after each validation."""
        self._counts = None
        self._indexed.epoch_begins()

    def capture(self) -> Callable[[], Mapping[str, Any]]:
        """Return the state of the validation data, as a function for the writer's thread."""
        if self._counts is None:
            self._counts = self._validation.counts()
        return _state([], self._counts, self._indexed)

    def capture_final(self) -> Callable[[], Mapping[str, Any]]:
        """Return the state of all data, from which another fit of the script may go on."""
        self.epoch_begins()
        return _state(self._train.counts(), self._validation.counts(), self._indexed)

    def check(self, state: object) -> None:
        """Check a state from a store; those of earlier versions have none. Raises InvalidState."""
        if state is None:
            return
        self._indexed.check(check_fields(state, _FIELDS)["own"])

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Restore the state, before the position in the training data.

        A dataset that is used for training as well has the orders of that position then.
        """
        if state is None:
            return
        self._counts = None
        for name, shuffles in (("train", self._train), ("validation", self._validation)):
            if len(counts := state[name]) == len(shuffles):
                shuffles.set(counts)
            elif counts:
                self._guard.report(
                    events.DATA_ORDER_UNSAVABLE,
                    reason=f"the {name} data has {len(shuffles)} shuffles, and had {len(counts)} "
                    "in the checkpoint: their orders start over",
                    fix="undo the change of the script",
                )
        self._indexed.restore(state["own"])

    def _report(self, validation: Any) -> None:
        """Report validation data that is read again, and may be different then."""
        if isinstance(validation, tf.data.Dataset):
            hidden = internals.hidden_state_of_dataset(validation)
            if not hidden:
                return
            what = f"its functions have state that can't be saved ({', '.join(hidden)})"
        elif hasattr(validation, "__next__"):
            what = "a Python generator goes on where it was, and starts over in another process"
        else:
            return
        self._guard.report(
            events.DATA_UNSAVABLE,
            input="validation_data",
            reason=f"{what}: a resumed fit may get other batches of it",
            fix="use tf.data without Python functions and random operations, arrays, or a "
            "keras.utils.PyDataset",
        )


def _state(
    train: Counts, validation: Counts, indexed: PyDatasetState
) -> Callable[[], Mapping[str, Any]]:
    own = indexed.epoch
    return lambda: {"train": train, "validation": validation, "own": own() if own else None}
