"""The ownership of a run: taken after a comparison, and lost to a newer attempt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from tenacity import retry, retry_if_exception_type, stop_after_attempt

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.commit.attempt import Attempt, Superseded
from keepfit.callbacks.checkpoint.commit.claim import MAX_CONFLICTS, claim, find_run
from keepfit.callbacks.checkpoint.commit.cleanup import Cleanup
from keepfit.callbacks.checkpoint.format.fit_record import FitRecord
from keepfit.callbacks.checkpoint.format.manifest import StoredFile
from keepfit.callbacks.checkpoint.format.state_schema import StateSchema
from keepfit.callbacks.checkpoint.read.documents import NoUsableCheckpoint
from keepfit.callbacks.checkpoint.read.file_restore import restore_file
from keepfit.callbacks.checkpoint.read.reader import Checkpoint, read_newest_usable
from keepfit.callbacks.checkpoint.retention import KeepNewest
from keepfit.callbacks.checkpoint.trained_on import is_out_of_date
from keepfit.callbacks.engine import fresh_start
from keepfit.callbacks.engine.admission import Admission, admit_all
from keepfit.callbacks.engine.fit_finder import FitFinder, checkpoints_of_fit, report_first
from keepfit.callbacks.engine.prefetch import CheckpointPrefetcher
from keepfit.callbacks.engine.store_errors import exit_for_store_error
from keepfit.callbacks.engine.versions import library_versions
from keepfit.callbacks.errors import Fenced, Refused
from keepfit.callbacks.identity import scripts
from keepfit.callbacks.identity.fits import FitMatch, RequestedFit
from keepfit.callbacks.launch import process as launch
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.settings import Settings
from keepfit.callbacks.storage.base import Conflict, Damaged, NotFound, StorageError, Store

log = get_logger()


class Ownership:
    """A run that this process owns from the moment when its first fit has claimed it.

    The checkpoint is compared with the training before the run is claimed: a process that does not
    belong to the run takes nothing over.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        prefetcher: CheckpointPrefetcher | None = None,
        admit: Admission = admit_all,
    ) -> None:
        self._settings = settings
        self._admit = admit
        self.store = store
        self._prefetcher = prefetcher
        self._claimed: Attempt | None = None
        self._finder = FitFinder(store, resume=settings.resume)

    @property
    def claimed(self) -> bool:
        """True once the run has been claimed."""
        return self._claimed is not None

    @property
    def attempt(self) -> Attempt:
        """This process's attempt of the run.

        Raises:
            RuntimeError: the run has not been claimed.
        """
        if self._claimed is None:
            raise RuntimeError("no fit has claimed the run yet")
        return self._claimed

    def claim(self, requested: RequestedFit) -> FitMatch:
        """Find the fit, compare it and the script with the run, then claim the run.

        Returns:
            The fit of the run that is requested.

        Raises:
            Refused: they differ, or nothing in the store can be resumed.
            LimitReached: the run has used what it may.
        """
        settings = self._settings
        script = scripts.record_of(launch.current())
        moved = fresh_start.move_aside_if_asked(self.store, settings, script)
        after = moved.attempt if moved else 0

        @retry(
            retry=retry_if_exception_type(Conflict),
            stop=stop_after_attempt(MAX_CONFLICTS),
            reraise=True,
        )
        def compare_and_claim() -> tuple[Attempt, FitMatch]:
            found = find_run(self.store, settings.run, after=after)
            match = self._finder.find_first(requested, found.head, script)
            self._admit(self.store, settings.run, found.head)
            attempt = claim(
                self.store,
                settings.run,
                found,
                retention=KeepNewest(settings.keep),
                versions=library_versions(),
                after=after,
                cleanup=Cleanup(self.store),
                script=script,
            )
            return attempt, match

        self._claimed, match = compare_and_claim()
        attempt = self._claimed
        log.info(events.CLAIMED, run=settings.run, store=self.store.uri, attempt=attempt.number)
        report_first(match, attempt.head)
        if settings.starts_fresh:
            fresh_start.record_start(attempt)
        return match

    def next_fit(
        self,
        requested: RequestedFit,
        begun: Sequence[int],
        unrecorded: Mapping[int, RequestedFit],
    ) -> FitMatch:
        """Return the fit of the claimed run that is requested; see FitFinder.find_next."""
        return self._finder.find_next(requested, self.attempt.head, begun, unrecorded)

    def record_of(self, index: int) -> FitRecord | None:
        """Return the identity of a fit; None if the run does not record it."""
        return self.attempt.head.fits.get(index)

    def read_checkpoint(self, index: int, schema: StateSchema) -> Checkpoint | None:
        """Read the newest usable checkpoint of a fit; return None if it has none.

        Args:
            schema: the schema of its state; what does not validate is damaged.

        Raises:
            NoUsableCheckpoint: it has some, but none can be used.
            Superseded: a newer attempt owns the run, and may have pruned them.
            StorageError: the store does not answer.
        """
        head = self.attempt.head
        prefetched = self._prefetcher.take() if self._prefetcher else {}
        try:
            found = read_newest_usable(
                self.store,
                head.run,
                checkpoints_of_fit(head, index),
                fit=index,
                prefetched=prefetched,
                schema=schema,
            )
        except NoUsableCheckpoint:
            self.attempt.check()
            raise
        if found is None or not is_out_of_date(found.manifest, head.baseline):
            return found
        log.info(
            events.TRAINED_ANEW,
            fit=index + 1,
            reason="a fit before this one has been trained on, and this one had begun from its end",
        )
        self.attempt.forget_fit(index)
        return None

    def read_continuation(self, index: int, schema: StateSchema) -> Checkpoint | None:
        """Read the checkpoint from which a finished fit can train more epochs.

        Without the one that was meant for it, this is the newest one before the end of the fit: all
        of them lead to the same result.

        Returns:
            The checkpoint; None if there is none that can be used.

        Raises:
            Superseded: a newer attempt owns the run, and may have pruned them.
            StorageError: the store does not answer.
        """
        keys = self.attempt.continuations_of(index)
        try:
            run = self.attempt.head.run
            return read_newest_usable(self.store, run, keys, fit=index, schema=schema)
        except NoUsableCheckpoint:  # the log says which were rejected
            self.attempt.check()
            return None

    def is_newest(self, checkpoint: Checkpoint) -> bool:
        """Return whether no other checkpoint of the run has been committed after this one."""
        return self.attempt.head.checkpoints[:1] == (checkpoint.key,)

    def baseline(self, fit: int, values: Mapping[str, int]) -> Mapping[str, int]:
        """Return baseline values (for example file sizes) at the first start of this fit.

        HEAD stores them, so that they are the same in every attempt.

        Args:
            fit: index of the fit in the script.
            values: the present values by name.

        Raises:
            Fenced, Refused, StoreUnreachable: as for begin_fit.
        """
        recorded = self.attempt.head.baseline
        new = {f"{fit}:{name}": value for name, value in values.items()}
        if new.keys() - recorded.keys():
            with self.using_store():
                self.attempt.record_baseline({**new, **recorded})
        return {name: recorded.get(f"{fit}:{name}", value) for name, value in values.items()}

    def restore_files(self, checkpoint: Checkpoint, may_write: Callable[[str], bool]) -> None:
        """Restore the callbacks' files to the checkpoint, where this machine lacks their content.

        Args:
            checkpoint: the checkpoint that is resumed.
            may_write: returns whether the script itself names a file; no other file is written,
                whatever the checkpoint contains.

        Raises:
            Fenced: a newer attempt owns the run.
            StoreUnreachable: the store does not answer now.
            Refused: the store can't be used.
        """
        for stored in checkpoint.manifest.files:
            if may_write(stored.path):
                self.restore_stored(stored)

    def restore_stored(self, stored: StoredFile) -> None:
        """Restore a file that the script itself names. Raises as restore_files does."""
        with self.using_store():
            try:
                if restore_file(self.store, stored):
                    log.info(events.FILE_RESTORED, file=stored.path, bytes=stored.size)
            except (NotFound, Damaged, OSError) as error:
                self.attempt.check()
                log.error(events.FILE_LOST, file=stored.path, reason=str(error))

    def begin_files(self, sizes: Mapping[str, int]) -> None:
        """Record the append-only files of a `fit` that is not resumed, with their present sizes."""
        self.attempt.begin_files(sizes)

    def record_once(self, name: str, former: str) -> bool:
        """Atomically record `name`; return True if this run had not recorded it before.

        Any thread may call it. `former` is the name under which keepfit 0.1 has recorded it.

        Raises:
            StorageError: it is unknown whether the name was recorded before.
        """
        return self.attempt.record_once(name, former)

    def script_ended(self, *, completed: bool) -> None:
        """Record that the script has come to its own end, so that --fresh may begin it anew.

        Args:
            completed: no error has ended it, so that another script must not take its result.
        """
        if self._claimed is None:
            return
        head = self._claimed.head
        values = fresh_start.values_at_end(head)
        if completed:
            values |= scripts.values_at_end(head)
        if values.items() <= head.baseline.items():
            return
        try:
            self._claimed.record_baseline({**head.baseline, **values})
        except (Superseded, StorageError) as error:
            log.warning(
                events.END_UNRECORDED,
                run=self._settings.run,
                reason=str(error),
                fix="--fresh would continue this run, and a changed script would be taken for it; "
                "use another --run NAME to begin anew",
            )

    def close(self, seconds: float | None) -> None:
        """Stop reading ahead, and wait at most so long for deletions and artifacts."""
        if self._prefetcher:
            self._prefetcher.close()
        if self._claimed:
            self._claimed.close(seconds)

    @contextmanager
    def using_store(self) -> Iterator[None]:
        """Let errors of the store end the attempt, where training can't start without the store."""
        try:
            yield
        except Superseded as error:
            raise self.fenced(str(error)) from error
        except NoUsableCheckpoint as error:
            log.error(events.REFUSED, reason=str(error))
            raise Refused from error
        except StorageError as error:
            raise exit_for_store_error(error) from error

    def fenced(self, reason: str) -> Fenced:
        """Log that a newer attempt owns the run; return the exception to raise."""
        log.error(
            events.FENCED,
            run=self._settings.run,
            attempt=self.attempt.number,
            reason=f"{reason}; this attempt stops, and has overwritten nothing of it",
        )
        return Fenced()
