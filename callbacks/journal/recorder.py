"""Record the journal of one attempt while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, TypeVar

from keepfit.callbacks.checkpoint.format.limits import MAX_NAME, MAX_NUMBER
from keepfit.callbacks.checkpoint.format.position import Position
from keepfit.callbacks.journal.document import (
    MAX_EPOCHS,
    MAX_FITS,
    MAX_METRICS,
    MAX_NOTICES,
    MAX_SAVES,
    Ending,
    Epoch,
    Fit,
    Journal,
    Machine,
    Mark,
    NoticeEntry,
    Previous,
    Save,
)
from keepfit.callbacks.journal.terms import Activity, ProcessEnd, Reason
from keepfit.callbacks.journal.time_account import ProcessStart, TimeAccount

T = TypeVar("T")


@dataclass(frozen=True)
class AttemptFacts:
    """What is known of an attempt when it claims the run; see Journal."""

    run: str
    attempt: int
    versions: Mapping[str, str]
    arguments: Sequence[str] = ()
    previous: Previous | None = None


def previous_entry(end: ProcessEnd, attempt: int) -> Previous:
    """Return the entry for the journal of the attempt after the one that has ended so.

    Args:
        attempt: the number of the ended one.
    """
    return Previous(
        attempt=attempt,
        started=end.started,
        ended=end.ended,
        reason=end.reason,
        detail=end.detail,
    )


@dataclass(frozen=True)
class _Entries:
    """The entries so far, replaced as a whole by the thread that trains or saves."""

    imported: float | None = None
    claimed: float | None = None
    first_batch: float | None = None
    fits: tuple[Fit, ...] = ()
    epochs: tuple[Epoch, ...] = ()
    epoch_count: int = 0
    end: Ending | None = None


@dataclass(frozen=True)
class _Saves:
    entries: tuple[Save, ...] = ()
    count: int = 0
    size: int = 0
    seconds: float = 0.0


class JournalRecorder:
    """Records what one attempt does, and returns it as a journal.

    The thread that trains records the activities, fits and epochs; the writer's thread records the
    saves. Any thread may ask for the journal: each part is immutable and replaced as a whole.

    Args:
        start: the start of the process.
        before: the activity since then.
        machine: returns what is known of the machine by now.
        notices: returns the notices so far: source, and moment and deadline in time.monotonic().
    """

    def __init__(
        self,
        start: ProcessStart,
        before: Activity,
        machine: Callable[[], Machine],
        notices: Callable[[], Sequence[tuple[str, float, float | None]]],
    ) -> None:
        self._start = start
        self._account = TimeAccount(start.monotonic, before)
        self._machine = machine
        self._notices = notices
        self._facts: AttemptFacts | None = None
        self._entries = _Entries()
        self._saves = _Saves()
        self._stalled = 0.0
        self._step = 0

    # On the thread that trains.

    def fit_asked(self) -> None:
        """Record that a `fit` begins: the first one ends the imports of the script."""
        self._account.switch(Activity.STARTUP)
        if self._entries.imported is None:
            self._set(imported=self._account.elapsed().total)

    def claimed(self, facts: AttemptFacts) -> None:
        """Record that the attempt has claimed the run."""
        self._facts = facts
        self._set(claimed=self._account.elapsed().total)

    def switch(self, activity: Activity) -> None:
        """Begin an activity."""
        if self._account.activity is Activity.STARTUP and activity is Activity.TRAINING:
            self._first_batch_ended()
        self._account.switch(activity)

    def during(self, activity: Activity) -> AbstractContextManager[None]:
        """Do another activity within the block, and go on with the present one after it."""
        return self._account.during(activity)

    def fit_trains(self, fit: int, step: int, *, resumed: bool, epochs: int | None = None) -> None:
        """Record that a `fit` trains its first batch of this attempt.

        Args:
            fit: number of the fit in the run.
            step: batches done in the run.
            resumed: it continues a checkpoint.
            epochs: the argument of `fit`.
        """
        self._step = step
        elapsed = self._account.elapsed()
        epochs = epochs if epochs is not None and 0 <= epochs <= MAX_NUMBER else None
        entry = Fit(step=step, elapsed=elapsed, fit=fit, resumed=resumed, epochs=epochs)
        self._set(fits=_newest(self._entries.fits, entry, MAX_FITS))

    def epoch_ended(self, fit: int, epoch: int, step: int, metrics: Mapping[str, Any]) -> None:
        """Record the end of an epoch.

        Args:
            metrics: the `logs` of `on_epoch_end`.
        """
        self._step = step
        entry = Epoch(
            step=step,
            elapsed=self._account.elapsed(),
            fit=fit,
            epoch=epoch,
            metrics=_numbers(metrics),
        )
        entries = self._entries
        epochs = _thinned((*entries.epochs, entry), MAX_EPOCHS)
        self._set(epochs=epochs, epoch_count=entries.epoch_count + 1)

    def captured(self, step: int) -> Mark:
        """Return the mark of a snapshot that has just been captured."""
        self._step = step
        return self._mark(step)

    def ended(self, reason: Reason, step: int, exit_code: int | None, detail: str = "") -> None:
        """Record why the attempt ends. The first reason counts."""
        if self._entries.end is None:
            mark = self._mark(step)
            text = " ".join(detail.split())[:1024]
            self._set(
                end=Ending(
                    step=mark.step,
                    elapsed=mark.elapsed,
                    reason=reason,
                    exit_code=exit_code,
                    detail=text,
                )
            )

    # On the writer's thread.

    def saved(self, mark: Mark, position: Position, seconds: float, size: int, last: bool) -> None:
        """Record that a snapshot has been committed.

        Args:
            mark: the mark of its capture.
            seconds: from the capture until it was durable.
            size: size of its shards in bytes.
            last: it is the last one of its fit, as far as is known.
        """
        stalled, self._stalled = self._stalled, mark.elapsed.saving
        entry = Save(
            step=mark.step,
            elapsed=mark.elapsed,
            fit=position.fit,
            epoch=position.epoch,
            batch=position.batch,
            seconds=seconds,
            size=size,
            stall=max(0.0, mark.elapsed.saving - stalled),
            last=last,
        )
        before = self._saves
        self._saves = _Saves(
            _thinned((*before.entries, entry), MAX_SAVES),
            before.count + 1,
            before.size + size,
            before.seconds + seconds,
        )

    # On any thread.

    def journal(self) -> Journal | None:
        """Return the journal so far; None if no run has been claimed."""
        facts, entries, saves = self._facts, self._entries, self._saves
        if facts is None:
            return None
        end = entries.end
        return Journal(
            run=facts.run,
            attempt=facts.attempt,
            process_started=self._start.time_of_day,
            written=Mark(step=end.step, elapsed=end.elapsed) if end else self._mark(self._step),
            machine=self._machine(),
            versions=dict(facts.versions),
            arguments=tuple(facts.arguments),
            imported=entries.imported,
            claimed=entries.claimed,
            first_batch=entries.first_batch,
            fits=entries.fits,
            saves=saves.entries,
            save_count=saves.count,
            save_bytes=saves.size,
            save_seconds=saves.seconds,
            epochs=entries.epochs,
            epoch_count=entries.epoch_count,
            notices=self._notice_entries(),
            end=end,
            previous=facts.previous,
        )

    def _first_batch_ended(self) -> None:
        if self._entries.first_batch is None:
            self._set(first_batch=self._account.elapsed().total)

    def _set(self, **changes: Any) -> None:
        self._entries = replace(self._entries, **changes)

    def _mark(self, step: int) -> Mark:
        return Mark(step=step, elapsed=self._account.elapsed())

    def _notice_entries(self) -> tuple[NoticeEntry, ...]:
        """Return the notices; a signal is given twice, by its thread and by its handler."""
        first: dict[str, NoticeEntry] = {}
        for source, received, deadline in self._notices():
            moments = [None if m is None else self._account.moment(m) for m in (received, deadline)]
            name = source[:MAX_NAME]
            entry = NoticeEntry(at=moments[0] or 0.0, source=name, deadline=moments[1])
            first.setdefault(source, entry)
        return tuple(first.values())[:MAX_NOTICES]


def _newest(entries: tuple[T, ...], entry: T, limit: int) -> tuple[T, ...]:
    """Return the entries with a new one; the first one stays, and the oldest of the others go."""
    if len(entries) < limit:
        return (*entries, entry)
    return (entries[0], *entries[2:], entry)


def _thinned(entries: tuple[T, ...], limit: int) -> tuple[T, ...]:
    """Return the entries, or if they are too many every second one, and always the newest ones.

    The newest checkpoints are those that the next attempt continues from.
    """
    if len(entries) <= limit:
        return entries
    kept = limit // 10
    return (*entries[:-kept:2], *entries[-kept:])


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    found = {
        str(name): float(value)
        for name, value in metrics.items()
        if isinstance(value, Real) and 1 <= len(str(name)) <= MAX_NAME
    }
    return dict(list(found.items())[:MAX_METRICS])
