"""The facts of a report, read from a store without disturbing a running attempt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from keepfit.callbacks.checkpoint.read import inspection
from keepfit.callbacks.checkpoint.read.inspection import CommittedState, Summary, created_at
from keepfit.callbacks.journal.document import Journal
from keepfit.callbacks.journal.goodput import Goodput, measure
from keepfit.callbacks.journal.read import RunJournals, read_journals
from keepfit.callbacks.storage.base import Damaged, StorageError, Store, Transient

MAX_RANGES: Final = 10
"""Largest number of ranges of attempts that a note names."""

_NONE: Final = RunJournals()


@dataclass(frozen=True)
class StoredCheckpoint:
    """A committed checkpoint.

    Attributes:
        fit, epoch: its position, counted from 1; `batch` and `step` are batches done in that epoch
            and in the run.
        created: time of creation, UTC; None if its manifest has no valid time.
        size: size in bytes of its shards and files, those included that others share.
        final: it is the final state of its fit.
    """

    key: str
    attempt: int
    fit: int
    epoch: int
    batch: int
    step: int
    created: datetime | None
    size: int
    final: bool


@dataclass(frozen=True)
class Report:
    """A run as its store has it.

    Attributes:
        store: URI of the store.
        run: the summary of the run that `ls` shows.
        journals: the readable journals, in the order of their attempts.
        goodput: computed from these journals.
        unreadable: why other journals can't be read, by number of the attempt.
        missing: numbers of the attempts without a journal.
        left_out: number of journals beyond those that are read.
        versions: of keepfit, Keras and TensorFlow, as the newest journal or checkpoint has them.
        checkpoints: the committed ones, the newest first.
        problems: why the manifest of another checkpoint can't be read, by its key.
        unlisted: why the journals can't even be listed; None if they can.
    """

    store: str
    run: Summary
    journals: tuple[Journal, ...]
    goodput: Goodput
    unreadable: Mapping[int, str]
    missing: tuple[int, ...]
    left_out: int
    versions: Mapping[str, str]
    checkpoints: tuple[StoredCheckpoint, ...]
    problems: Mapping[str, str]
    unlisted: str | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What the report lacks, in sentences for users."""
        return tuple(_notes(self))


def read_report(store: Store, run: str) -> Report:
    """Read what the store knows of a run.

    A run whose HEAD is damaged has a report also: `run.state` is "damaged" then.

    Raises:
        NoSuchRun, RunMoved: there is no run of this name.
        StorageError: the store can't be read. What can't be read of the journals alone is no error.
    """
    committed: CommittedState | None = None
    try:
        committed = inspection.read_committed(store, run)
        summary = inspection.summary_of(run, committed)
    except Damaged as error:
        summary = Summary(run, "damaged", reason=str(error))
    try:
        return report_of(
            store.uri, summary, read_journals(store, run, first=summary.first_attempt), committed
        )
    except Transient:
        raise
    except StorageError as error:
        return report_of(store.uri, summary, RunJournals(), committed, unlisted=str(error))


def report_of(
    store: str,
    summary: Summary,
    found: RunJournals = _NONE,
    committed: CommittedState | None = None,
    *,
    unlisted: str | None = None,
) -> Report:
    """Return the report of what has been read.

    Args:
        store: URI of the store.
        committed: HEAD and its manifests; None if they can't be read.
        unlisted: why the journals can't be listed.
    """
    newest = max(summary.attempts, found.journals[-1].attempt if found.journals else 0)
    oldest = found.journals[0].attempt if found.journals and found.left_out else 0
    journals = found.journals
    versions: Mapping[str, str] = journals[-1].versions if journals else {}
    if committed and committed.newest and not versions:
        versions = committed.newest.versions
    return Report(
        store=store,
        run=summary,
        journals=journals,
        goodput=measure(journals),
        unreadable=found.unreadable,
        missing=() if unlisted else tuple(n for n in found.missing(newest) if n > oldest),
        left_out=found.left_out,
        versions=versions,
        checkpoints=tuple(_checkpoints(committed)) if committed else (),
        problems=committed.problems if committed else {},
        unlisted=unlisted,
    )


def _checkpoints(committed: CommittedState) -> Iterator[StoredCheckpoint]:
    for key, manifest in committed.manifests.items():
        position = manifest.position
        files = (part.size for file in manifest.files for part in file.parts)
        yield StoredCheckpoint(
            key=key,
            attempt=manifest.attempt,
            fit=position.fit + 1,
            epoch=position.epoch + 1,
            batch=position.batch,
            step=position.step,
            created=created_at(manifest),
            size=sum(shard.size for shard in manifest.shards) + sum(files),
            final=position.finished,
        )


def _notes(report: Report) -> Iterator[str]:
    """Yield what the report lacks, in sentences for users."""
    if report.unlisted:
        yield f"the journals can't be read: {report.unlisted}"
    if report.missing:
        several = len(report.missing) > 1
        yield (
            f"{_attempts(report.missing)} {'have' if several else 'has'} no journal: "
            f"{'they were' if several else 'it was'} run by a keepfit without it, or ended before "
            f"{'they' if several else 'it'} could write one"
        )
    for number, reason in report.unreadable.items():
        yield f"the journal of attempt {number} can't be read: {reason}"
    if report.left_out:
        yield f"older journals are not read, since there are too many: {report.left_out}"
    if report.goodput.overlap:
        yield (
            f"{report.goodput.overlap:.1f} s count for two attempts each: one was still alive when "
            "the next one began, or the clocks of their machines differ"
        )
    costs = report.goodput.costs
    if costs.paid is not None and costs.unpriced:
        yield f"the cost is without {_number(costs.unpriced)} whose price is not known"
    if costs.unended:
        yield (
            "the cost is without the time after the last record of "
            f"{_number(costs.unended)} whose end is not known"
        )


def _number(attempts: int) -> str:
    return "1 attempt" if attempts == 1 else f"{attempts} attempts"


def _attempts(numbers: tuple[int, ...]) -> str:
    """Return the numbers as text: "attempts 1 to 3 and 5"; long lists are cut."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1][1:] = [number]
        else:
            ranges.append([number])
    shown = [" to ".join(map(str, one)) for one in ranges[:MAX_RANGES]]
    if len(ranges) > MAX_RANGES:
        shown.append("others")
    text = ", ".join(shown[:-1]) + (" and " if shown[1:] else "") + shown[-1]
    return f"attempt{'s' if len(numbers) > 1 else ''} {text}"
