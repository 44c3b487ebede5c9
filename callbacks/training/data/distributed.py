"""The input of a distribution strategy, whose iterators have no state that can be saved.

Such an iterator reads ahead for each device. What it returns is determined by its dataset, and by
the seeds that the shuffles of the dataset gave it: each shuffle has a generator of seeds, shared by
all iterators. So the numbers of seeds drawn until an iterator was new are captured, and the batches
since then are counted. A resumed fit sets the generators to these numbers, creates the iterator
again, and reads the counted batches.

A dataset with a cache below which rows are shuffled has the order of its first iterator in all
epochs. A resumed fit fills such a cache first, with the seeds of that iterator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from keepfit.callbacks.training import internals
from keepfit.callbacks.training.data import seeds
from keepfit.callbacks.training.data.position import Counts, DataChanged, SeedCounts


@dataclass(frozen=True)
class Obstacle:
    """The reason why a resumed fit may read other batches.

    Attributes:
        reason: completes "a resumed fit reads it again from the start of the epoch".
        fix: how the script can avoid it.
    """

    reason: str
    fix: str


MAY_DIFFER = Obstacle(
    "and may get other batches if its source is not deterministic",
    "seed the source's random generator; or use tf.data without Python functions, arrays, or a "
    "keras.utils.PyDataset",
)


class DistributedInput:
    """The input that the iterator of a strategy reads."""

    def __init__(self, iterator: Any) -> None:
        self._iterator = iterator
        self._datasets = internals.distributed_datasets(iterator)
        self._seeded = internals.seeded_datasets(self._datasets)

    @classmethod
    def of(cls, iterator: Any) -> DistributedInput | None:
        """Return the input of a strategy's iterator; None for another iterator."""
        return cls(iterator) if internals.distributed_datasets(iterator) else None

    @property
    def element_spec(self) -> Any:
        """The structure of a replica's part of a batch."""
        return self._datasets[0].element_spec

    def obstacle(self) -> Obstacle | None:
        """Return what hinders an exact resumption, if anything."""
        if internals.reads_unknown_datasets(self._datasets):
            return Obstacle(
                "and may get other batches if a dataset in one of its functions is shuffled",
                "shuffle the dataset itself, outside of functions such as that of flat_map",
            )
        if not all(map(internals.is_seeded, self._seeded)) or (
            internals.draws_hidden_numbers(self._datasets) and not internals.eager_seed_state()
        ):
            return Obstacle(
                "and in another order, because no seed was set: it gets some rows twice and "
                "others never",
                "call keras.utils.set_random_seed at the start of the script, or shuffle with "
                "seed=",
            )
        counts = self.counts()
        savable = all(map(internals.can_be_saved, self._datasets))
        self._set(counts)
        return None if savable else MAY_DIFFER

    def counts(self) -> Counts:
        """Return the seeds drawn until now, which this does not change."""
        return tuple(map(seeds.numbers_drawn, self._seeded))

    def restore(self, saved: SeedCounts) -> None:
        """Make the iterator, which is new, return what one from the same counts returned.

        Raises:
            DataChanged: the input has another number of shuffles.
        """
        if not len(saved.first) == len(saved.current) == len(self._seeded):
            raise DataChanged(
                f"it has {len(self._seeded)} shuffles, the checkpoint's {len(saved.current)}"
            )
        if not self._seeded:
            return
        if saved.current != saved.first and internals.caches_shuffled_rows(self._datasets):
            self._fill_caches(saved.first)
        self._create_again(
            saved.current, lambda: internals.renew_distributed_iterator(self._iterator)
        )

    def _fill_caches(self, first: Counts) -> None:
        for batches in self._create_again(first, lambda: [iter(d) for d in self._datasets]):
            for _ in batches:
                pass

    def _create_again(self, counts: Counts, create: Callable[[], Any]) -> Any:
        """Create an iterator that was new at these counts.

        Some shuffles draw when an iterator is created, others with its first batch. The first
        attempt finds out how much each of them draws.
        """
        self._set(counts)
        create()
        drawn = [now - before for now, before in zip(self.counts(), counts, strict=True)]
        self._set([count - more for count, more in zip(counts, drawn, strict=True)])
        return create()

    def _set(self, counts: Sequence[int]) -> None:
        for dataset, count in zip(self._seeded, counts, strict=True):
            seeds.set_numbers_drawn(dataset, max(count, 0))
