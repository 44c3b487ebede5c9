"""Input from the user's own Python code: a PyDataset, which Keras reads by batch index.

It has state of two kinds between epochs: the order that Keras draws with Python's `random` when an
epoch begins, and the attributes that its own `on_epoch_end` has changed, such as a shuffled list of
files. Both are captured at the beginning of the epoch, which a resumed process reads once more.
"""

from __future__ import annotations

from typing import Any

from keepfit.callbacks.adapters.base import FrozenState, State, capture
from keepfit.callbacks.adapters.user_callbacks import adapter_for_object
from keepfit.callbacks.checkpoint.format.state_schema import check_fields
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.training import random_state


class PyDatasetState:
    """The state of one fit's PyDataset; does nothing if the input is of another kind."""

    def __init__(self, dataset: Any, guard: ExactnessGuard) -> None:
        self._dataset = dataset
        self._guard = guard
        self._adapter = None if dataset is None else adapter_for_object(dataset, guard)
        self._epoch: FrozenState | None = None
        self._after_batch: State | None = None

    @property
    def epoch(self) -> FrozenState | None:
        """The state at the beginning of the current epoch, frozen."""
        return self._epoch

    @property
    def after_batch(self) -> State | None:
        """The process's random state after the last batch, before `on_epoch_end` draws from it."""
        return self._after_batch

    def epoch_begins(self) -> None:
        """Capture the state at the beginning of an epoch, before its first batch is drawn."""
        if self._adapter:
            own = capture(self._adapter, self._dataset)
            if self._guard.refusing:
                own()  # reports what can't be kept
            randomness = random_state.capture_random_state()
            self._epoch = lambda: {"randomness": randomness, "own": own()}
            self._after_batch = None

    def batch_ends(self) -> None:
        """Capture the random state after each batch."""
        if self._adapter:
            self._after_batch = random_state.capture_random_state()

    def check(self, epoch: object) -> None:
        """Check the state of an epoch's beginning from a store. Raises InvalidState."""
        if self._adapter is None or epoch is None:
            return
        state = check_fields(epoch, {"randomness": dict, "own": dict})
        random_state.check_random_state(state["randomness"])
        self._adapter.check(self._dataset, state["own"])

    def restore(self, epoch: State | None) -> None:
        """Restore the state from the beginning of the interrupted epoch."""
        self._epoch = None if epoch is None else lambda: epoch
        if self._adapter and epoch:
            self._adapter.set(self._dataset, epoch["own"])
            random_state.restore_random_state(epoch["randomness"])
