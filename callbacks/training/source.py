"""Input that is Python of the user's: a PyDataset, asked for its batches by number.

It has state of two kinds between epochs: the order that Keras draws with Python's `random` when an
epoch begins, and what its own `on_epoch_end` has changed, such as a shuffled list of files. Both
are kept as they were at the beginning of the epoch, which a resumed process reads once more.
"""

from __future__ import annotations

from typing import Any

from callbacks.doubts import Doubts
from callbacks.state.adapters import of_object
from callbacks.training import randomness

State = dict[str, Any]


class Source:
    """The PyDataset of one `fit`, if its input is one."""

    def __init__(self, dataset: Any, doubts: Doubts) -> None:
        self._dataset = dataset
        self._adapter = None if dataset is None else of_object(dataset, doubts)
        self._epoch: State | None = None
        self._after_batch: State | None = None

    @property
    def epoch(self) -> State | None:
        """As it was when the epoch under way began."""
        return self._epoch

    @property
    def after_batch(self) -> State | None:
        """The process's random state after the last batch, before the epoch's end draws from it."""
        return self._after_batch

    def epoch_begins(self) -> None:
        """Before the first batch is drawn."""
        if self._adapter:
            own = self._adapter.get(self._dataset)
            self._epoch = {"randomness": randomness.capture(), "own": own}
            self._after_batch = None

    def batch_ends(self) -> None:
        """After each batch."""
        if self._adapter:
            self._after_batch = randomness.capture()

    def restore(self, epoch: State | None) -> None:
        """Let it be as at the beginning of the interrupted epoch."""
        self._epoch = epoch
        if self._adapter and epoch:
            self._adapter.set(self._dataset, epoch["own"])
            randomness.restore(epoch["randomness"])
