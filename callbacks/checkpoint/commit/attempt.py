"""One process's claim on a run: the only way to write to it.

A claim replaces HEAD by one that has the next attempt number (claim.py). From then on, an older
attempt that is still alive fails at its next swap of HEAD and can't commit anything more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.commit.artifacts import ArtifactPublisher
from keepfit.callbacks.checkpoint.commit.cleanup import InlineCleanup, Task
from keepfit.callbacks.checkpoint.commit.head_writer import HeadWriter, Superseded
from keepfit.callbacks.checkpoint.commit.object_writer import ObjectWriter
from keepfit.callbacks.checkpoint.commit.reports import ReportRecords
from keepfit.callbacks.checkpoint.format.fit_record import FitRecord
from keepfit.callbacks.checkpoint.format.head import Head
from keepfit.callbacks.checkpoint.format.keys import attempt_of
from keepfit.callbacks.checkpoint.format.manifest import Manifest
from keepfit.callbacks.checkpoint.retention import Retention, finished_fits, unreferenced
from keepfit.callbacks.checkpoint.snapshot import Snapshot
from keepfit.callbacks.checkpoint.trained_on import baseline_of_training_on, without_fit
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.storage.base import Store, Version

__all__ = ["Attempt", "Committed", "Superseded"]

log = get_logger()


NO_FITS: Mapping[int, FitRecord] = {}


def never() -> bool:
    """Return False: no save is in a hurry."""
    return False


@dataclass(frozen=True)
class Committed:
    """A checkpoint that has been committed.

    Attributes:
        delayed: paths of the files that stay at their previous version in it, or are left out.
    """

    manifest: Manifest
    delayed: tuple[str, ...]


class Attempt:
    """The newest attempt of a run. Not thread-safe: one thread at a time may use it.

    Args:
        manifests: the readable manifests that HEAD names, by key, read before the claim swapped it.
        cleanup: does the work that is not part of a commit.
    """

    def __init__(
        self,
        store: Store,
        head: Head,
        version: Version,
        manifests: Mapping[str, Manifest],
        retention: Retention,
        versions: Mapping[str, str],
        cleanup: InlineCleanup | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._head = HeadWriter(store, head, version)
        self._retention = retention
        # What these manifests name must never be swept, even if a newer attempt has claimed the run
        # and pruned the manifests by the time this attempt sweeps.
        self._claimed = dict(manifests)
        self._kept = dict(self._claimed)
        self._rejected: set[str] = set()
        self._artifacts = ArtifactPublisher(store, head.run)
        self._reports = ReportRecords(store, head.run)
        self._cleanup = cleanup or InlineCleanup(store)
        self._objects = ObjectWriter(store, head.run, head.attempt, versions, self._cleanup)
        self._clock = clock
        self._claimed_at = clock()

    @property
    def number(self) -> int:
        """The attempt's number; it is higher than that of every earlier attempt of the run."""
        return self._head.head.attempt

    @property
    def head(self) -> Head:
        """HEAD as this attempt last wrote it."""
        return self._head.head

    @property
    def newest_step(self) -> int:
        """Batches done in the run at its newest readable checkpoint; 0 if there is none."""
        steps = (self._kept[k].position.step for k in self.head.checkpoints if k in self._kept)
        return next(steps, 0)

    @property
    def age(self) -> float:
        """Seconds since the claim."""
        return self._clock() - self._claimed_at

    def resume_from(self, key: str, manifest: Manifest) -> None:
        """Continue from this verified checkpoint: the newer ones in HEAD have proved unusable.

        New shards that are equal to one of its shards need not be written again.
        """
        named = self.head.checkpoints
        if key in named:
            newer = named[: named.index(key)]
            same_fit = (manifest.position.fit, None)
            self._rejected.update(k for k in newer if self._fit_of(k) in same_fit)
        elif final := self.head.finished.get(manifest.position.fit):
            self._rejected.add(final)  # the fit trains on from a state before its end
        if key in self._kept:  # otherwise its objects may be swept
            self._objects.trust(manifest.shards)
            self._objects.files.resume_from(manifest)

    def check(self) -> None:
        """Check that this attempt still owns the run.

        Raises:
            Superseded: a newer attempt owns the run by now, or it was moved aside or deleted.
            StorageError: HEAD could not be read, or is missing and could not be written anew.
        """
        self._head.check()

    def begin_files(self, sizes: Mapping[str, int]) -> None:
        """Record that a `fit` has opened its append-only files.

        Args:
            sizes: size in bytes of each file, by path, right after it was opened.
        """
        self._objects.files.begin(sizes)

    def record_baseline(self, values: Mapping[str, int]) -> None:
        """Store baseline values in HEAD: mainly the sizes of append-only files before a `fit`.

        Raises:
            Superseded: a newer attempt owns the run.
            StorageError: HEAD was not changed, or it is unknown whether it was.
        """
        self._swap(baseline=dict(values))

    def record_fits(self, records: Mapping[int, FitRecord]) -> None:
        """Store the identities of fits in HEAD. Raises as record_baseline does."""
        self._swap(fits={**self.head.fits, **records})

    def continuations_of(self, fit: int) -> tuple[str, ...]:
        """Return the keys of the checkpoints of a finished fit before its end, the best first."""
        known = ((key, self._kept.get(key)) for key in self.head.checkpoints)
        before_end = [
            key
            for key, manifest in known
            if manifest and manifest.position.fit == fit and not manifest.position.finished
        ]
        # The reader reports it if the continuation can't be read.
        best = [self.head.continuations[fit]] if fit in self.head.continuations else []
        return (*best, *before_end)

    def record_training_on(self, fit: int) -> None:
        """Record in HEAD that a finished fit trains on; see trained_on.py.

        Raises:
            Superseded: a newer attempt owns the run.
            StorageError: HEAD was not changed, or it is unknown whether it was.
        """
        self._swap(baseline=baseline_of_training_on(self.head, fit))

    def forget_fit(self, fit: int) -> None:
        """Remove the checkpoints of a fit that begins again from HEAD.

        The next commit deletes them. Raises as record_training_on does.
        """
        self._swap(**without_fit(self.head, fit, self._kept))

    def record_once(self, name: str, former: str) -> bool:
        """Atomically record a report; return True if this run had not recorded it before.

        Any thread may call it. `name` and `former` are as for ReportRecords.record_once.

        Raises:
            StorageError: it is unknown whether it had been recorded before.
        """
        return self._reports.record_once(name, former)

    def commit(
        self,
        snapshot: Snapshot,
        *,
        last: bool = False,
        hurry: Callable[[], bool] = never,
        notice: Callable[[], bool] = never,
        release: Collection[int] = (),
        fits: Mapping[int, FitRecord] = NO_FITS,
    ) -> Committed:
        """Make `snapshot` the newest checkpoint: objects, manifest, then HEAD in one atomic step.

        In a hurry, a file that is still being uploaded FILE_BUDGET seconds after the shards are
        stored stays at its previous version; the log names it.

        Args:
            last: this is meant to be the attempt's last checkpoint: as far as is known, the attempt
                exits after it without losing any steps.
            hurry: returns whether the save is in a hurry by now; asked while files are awaited.
            notice: returns whether this process ends soon; the continuation is not stored then.
            release: finished fits whose variables are no longer needed. What is kept of them is
                their history, and the state of their callbacks.
            fits: identities of fits that HEAD does not record yet, by index.

        Raises:
            Superseded: a newer attempt owns the run; none of its objects was touched.
            OSError: an append-only file can't be read; as with StorageError, the checkpoint before
                is still the committed one.
            StorageError: the checkpoint could not be written.
        """
        step, objects = snapshot.position.step, self._objects
        objects.fits = {**self.head.fits, **fits}
        # If HEAD has to be rebuilt, the last key has to be that of the final state.
        before = objects.new_key(step) if snapshot.continuation else None
        key, sequence = objects.new_key(step)
        stored = objects.store_checkpoint(snapshot, key, sequence, key, hurry)
        continuation = before and objects.store_continuation(snapshot, *before, key, notice)
        records = self._without_variables(release)
        self._commit_manifest(key, stored.manifest, records, continuation, last=last)
        objects.confirm(stored)
        self._artifacts.request(stored.manifest)
        self._cleanup.submit(Task(self._artifacts.publish, events.ARTIFACT_FAILED))
        return Committed(stored.manifest, stored.delayed)

    def sweep(self) -> None:
        """Delete what killed attempts left behind: half-written objects and uncommitted ones.

        Objects of this attempt stay: it may be writing them at this moment. The half-written ones
        come last: a role that may not list them still has the others deleted.

        Raises:
            StorageError: not everything was deleted; no committed object was touched.
        """
        for key in self._leftovers():
            self._store.delete(key)
        self._clear_unfinished()

    def begin_sweep(self) -> None:
        """Like sweep, but have it done by the cleanup; a part that fails is a line in the log."""
        delete = Task(lambda: self._cleanup.delete(self._leftovers()), events.PRUNE_FAILED)
        self._cleanup.submit(delete)
        self._cleanup.submit(Task(self._clear_unfinished, events.PRUNE_FAILED))

    def submit(self, task: Task) -> None:
        """Have optional work done by the cleanup, which no save waits for."""
        self._cleanup.submit(task)

    def flush(self, seconds: float | None) -> bool:
        """Wait at most so long for deletions and artifacts; return True if they are done."""
        return self._cleanup.flush(seconds)

    def close(self, seconds: float | None) -> bool:
        """Like flush; what is not done by then is left to the next attempt's sweep."""
        return self._cleanup.close(seconds)

    def _without_variables(self, fits: Iterable[int]) -> dict[str, Manifest]:
        """Store what is kept of finished fits whose variables are dropped; return it by key."""
        finals = (self._kept.get(self.head.finished.get(fit, "")) for fit in fits)
        return dict(
            self._objects.store_record(final) for final in finals if final and final.has_variables
        )

    def _commit_manifest(
        self,
        key: str,
        manifest: Manifest,
        records: Mapping[str, Manifest],
        continuation: tuple[str, Manifest] | None,
        *,
        last: bool,
    ) -> None:
        """Make HEAD name the manifest, then have the objects deleted that HEAD no longer needs.

        Args:
            records: manifests that replace those of finished fits.
            continuation: key and manifest of what is stored beside the final state of a fit.
        """
        self._head.resolve()
        head = self.head
        ends = finished_fits(head, {**records, key: manifest}, continuation and continuation[0])
        candidates = {**self._kept, **records, key: manifest}
        candidates.update([continuation] if continuation else [])
        usable = [k for k in head.checkpoints if k in self._kept and k not in self._rejected]
        kept = self._retained([key, *usable], candidates, ends["finished"])
        # Until the outcome of the swap is known, neither the old nor the new may be deleted.
        self._kept = candidates
        history = head.history.after_save(self.age, last=last)
        self._swap(checkpoints=kept, history=history, fits=self._objects.fits, **ends)
        self._kept = {k: candidates[k] for k in self.head.manifests() if k in candidates}
        dropped = candidates.keys() - self._kept.keys()
        objects = {key for k in dropped for key in candidates[k].objects()}
        self._delete({*dropped, *objects, *self._objects.take_unconfirmed()})

    def _retained(
        self, keys: Sequence[str], manifests: Mapping[str, Manifest], finished: Collection[int]
    ) -> tuple[str, ...]:
        """Return the keys of the checkpoints to keep, the newest first.

        Beside the newest ones these are the newest of other fits that were interrupted, as many at
        most: the script may ask for its fits in another order.
        """
        newest = self._retention.keep(keys)
        fits = {manifests[key].position.fit for key in newest}
        others: list[str] = []
        for key in keys:
            fit = manifests[key].position.fit
            if fit not in fits and fit not in finished and len(others) < len(newest):
                fits.add(fit)
                others.append(key)
        return (*newest, *others)

    def _fit_of(self, key: str) -> int | None:
        """Return the fit of a checkpoint; None if its manifest can't be read."""
        manifest = self._kept.get(key)
        return manifest.position.fit if manifest else None

    def _swap(self, **changes: object) -> None:
        """Change fields of HEAD. Raises as HeadWriter.swap does."""
        self._head.swap(changes)

    def _delete(self, keys: Iterable[str]) -> None:
        """Have those of `keys` deleted that no kept manifest needs."""
        deletable = unreferenced(self.head.run, keys, self._kept, self.number)
        self._objects.forget(set(deletable))
        self._cleanup.delete(deletable)

    def _leftovers(self) -> list[str]:
        """Return the keys of older attempts' uncommitted objects.

        What the claim found committed stays, even if a newer attempt has pruned it by now.
        """
        keys = [entry.key for entry in self._store.list(f"{self.head.run}/")]
        return unreferenced(self.head.run, keys, self._claimed, self.number - 1)

    def _clear_unfinished(self) -> None:
        """Remove older attempts' half-written objects."""
        self._store.clear_unfinished(f"{self.head.run}/", self._is_leftover)

    def _is_leftover(self, key: str) -> bool:
        """Return True if an older attempt has begun to write this object."""
        attempt = attempt_of(self.head.run, key)
        return attempt is None or attempt < self.number
