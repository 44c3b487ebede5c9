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
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

from keepfit.callbacks.training import internals
from keepfit.callbacks.training.data import seeds
from keepfit.callbacks.training.data.position import Counts, DataChanged, IteratorState, SeedCounts
from keepfit.callbacks.training.data.relay import Relay, RelayState

T = TypeVar("T")


@dataclass(frozen=True)
class Obstacle:
    """The reason why a resumed fit may read other batches.

    Attributes:
        reason: completes "a resumed fit reads it again from the start of the epoch".
        fix: how the script can avoid it.
        seeds_are_known: the seeds at least can be restored.
    """

    reason: str
    fix: str
    seeds_are_known: bool = True


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
        self._endless = internals.is_endless(iterator)

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
        try:
            counts = self.new_counts
        except seeds.UnknownFormat as error:
            return Obstacle(
                f"and in another order, because its seeds can't be read: {error}",
                "use a version of TensorFlow that keepfit supports",
                seeds_are_known=False,
            )
        savable = all(map(internals.can_be_saved, self._datasets))
        self._set(counts)
        return None if savable else MAY_DIFFER

    @cached_property
    def new_counts(self) -> Counts:
        """The seeds drawn until the iterator was new: to be asked for before others are created.

        Raises:
            UnknownFormat: see seeds.numbers_drawn.
        """
        return self.counts()

    def counts(self) -> Counts:
        """Return the seeds drawn until now, which this does not change."""
        return tuple(map(seeds.numbers_drawn, self._seeded))

    @property
    def devices(self) -> int:
        """Number of elements of the dataset in each batch: one for each device."""
        return internals.devices_of_distributed_iterator(self._iterator)

    def relay(self, counts: Counts) -> Relay | None:
        """Return a relay for the iterator, new at these counts, if one serves all epochs."""
        if not self._endless or len(self._datasets) > 1:
            return None
        (dataset,) = self._datasets
        return self._create_again(counts, lambda: Relay(self._iterator, dataset))

    def restore(self, saved: SeedCounts, *, relayed: bool) -> Relay | None:
        """Make the iterator, which is new, return what one from the same counts returned.

        Args:
            relayed: it is fed by a relay.

        Returns:
            The relay that is to feed it.

        Raises:
            DataChanged: the input has another number of shuffles.
        """
        if not len(saved.first) == len(saved.current) == len(self._seeded):
            raise DataChanged(
                f"it has {len(self._seeded)} shuffles, the checkpoint's {len(saved.current)}"
            )
        if relayed:
            return self.relay(saved.current)
        cached = internals.caches_shuffled_rows(self._datasets)
        if cached and saved.current != saved.first and not self._endless:
            self._fill_caches(saved.first)
        if self._seeded:
            renew = internals.renew_distributed_iterator
            self._create_again(saved.current, lambda: renew(self._iterator))
        return None

    def _fill_caches(self, first: Counts) -> None:
        for batches in self._create_again(first, lambda: [iter(d) for d in self._datasets]):
            for _ in batches:
                pass

    def _create_again(self, counts: Counts, create: Callable[[], T]) -> T:
        """Create an iterator that was new at these counts.

        Some shuffles draw when an iterator is created, others with its first batch. The first
        attempt finds out how much each of them draws.

        Raises:
            DataChanged: the shuffles draw more than that when an iterator is created.
        """
        self._set(counts)
        create()
        drawn = [now - before for now, before in zip(self.counts(), counts, strict=True)]
        before = [count - more for count, more in zip(counts, drawn, strict=True)]
        if min(before, default=0) < 0:
            raise DataChanged("the seeds in the checkpoint are those of other shuffles")
        self._set(before)
        return create()

    def _set(self, counts: Sequence[int]) -> None:
        for dataset, count in zip(self._seeded, counts, strict=True):
            seeds.set_numbers_drawn(dataset, count)


class DistributedReading:
    """How far the iterators of a strategy have been read in one fit.

    Attributes:
        given: the input of the present iterator.
    """

    def __init__(
        self, given: DistributedInput, obstacle: Obstacle | None, first: Counts | None = None
    ) -> None:
        """Note a new iterator.

        Args:
            obstacle: what hinders an exact resumption, if anything.
            first: the counts when the fit's first iterator was new; None if this is the first one.
        """
        self.given = given
        self.obstacle = obstacle
        self.seeds: SeedCounts | None = None
        self._relay: Relay | None = None
        if obstacle is None or obstacle.seeds_are_known:
            current = given.new_counts
            self.seeds = SeedCounts(current if first is None else first, current)
            self._relay = None if obstacle else given.relay(current)
        if self._relay:
            self._relay.feed()

    def followed_by(self, given: DistributedInput) -> DistributedReading:
        """Return the reading of the fit's next iterator."""
        return DistributedReading(given, self.obstacle, self.seeds.first if self.seeds else None)

    def position(self, batches: int) -> tuple[IteratorState | None, SeedCounts | None]:
        """Return the later state, if there is one, and the seeds, after so many batches."""
        if self._relay:
            self._relay.note(batches * self.given.devices)
        latest = self._relay and self._relay.latest
        if not latest or not self.seeds:
            return None, self.seeds
        return latest.state, replace(self.seeds, passed=latest.passed)

    @property
    def needs_state(self) -> bool:
        """Return True if a state captured now would be of use to a later position."""
        return self._relay is not None and self._relay.needs_state

    def capture(self) -> None:
        """Capture a state for later positions."""
        if self._relay:
            self._relay.capture()

    def restore(self, seeds_then: SeedCounts, later: IteratorState | None, batches: int) -> int:
        """Return to a position of an earlier attempt.

        Args:
            batches: number of batches before it, which the iterator has returned.

        Returns:
            The number of batches that have to be read again.

        Raises:
            DataChanged: the input is a different one.
        """
        self.seeds = seeds_then
        self._relay = relay = self.given.restore(seeds_then, relayed=self._relay is not None)
        if relay:
            if later:
                elements = batches * self.given.devices
                relay.resume(RelayState(later, seeds_then.passed), elements)
                return 0
            relay.feed()
        return batches
