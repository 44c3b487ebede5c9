"""The runs of a store, the newest first, with their goodput: what `keepfit status` lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from keepfit.callbacks.checkpoint.read.inspection import Summary, summarize_all
from keepfit.callbacks.daemon_executor import DaemonExecutor
from keepfit.callbacks.journal.document import Journal
from keepfit.callbacks.journal.goodput import Goodput, measure
from keepfit.callbacks.journal.kept import last_mark
from keepfit.callbacks.journal.read import RunJournals, read_journals
from keepfit.callbacks.storage.base import StorageError, Store, Transient

NEWEST: Final = 50
"""Number of runs that are listed unless all are asked for: each needs its journals."""

THREADS: Final = 4
"""Number of runs whose journals are read at the same time."""

_NEVER: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class JobState:
    """The newest job of a run on AWS Batch: its id, its status, and when it was submitted."""

    id: str
    status: str
    created: datetime
    attempts: int


@dataclass(frozen=True)
class RunStatus:
    """A run in the list.

    Attributes:
        state: its state in the store; empty if the store does not have it yet.
        reason: why it is damaged, or what can't be read of it.
        job: its job on AWS Batch, if it has one.
        goodput: None if no attempt has a readable journal.
        last_seen: the newest of its last save, its last record and the submission of its job.
    """

    run: str
    state: str
    reason: str | None
    job: JobState | None
    step: int | None
    attempts: int
    goodput: Goodput | None
    last_seen: datetime | None


@dataclass(frozen=True)
class Overview:
    """The listed runs; `left_out` is the number of older ones."""

    store: str
    runs: tuple[RunStatus, ...]
    left_out: int = 0


def read_overview(
    store: Store, jobs: Mapping[str, JobState] | None = None, limit: int | None = NEWEST
) -> Overview:
    """Read the runs of a store, and merge them with those that have jobs.

    A run needs the requests of `ls`, and of those that are listed one more and one for each
    journal. A run that can't be read does not hide the others.

    Args:
        jobs: the newest job of each run.
        limit: number of runs to list; None for all.

    Raises:
        StorageError: the store itself can't be listed, or does not answer.
    """
    jobs = jobs or {}
    summaries = {summary.run: summary for summary in summarize_all(store)}
    for run in jobs.keys() - summaries.keys():
        summaries[run] = Summary(run, "")
    # The journals alone know when a run without a checkpoint was last seen.
    early = _read_all(store, [s for s in summaries.values() if s.saved is None], jobs)

    def seen(summary: Summary) -> tuple[datetime, str]:
        known = early.get(summary.run)
        job = jobs.get(summary.run)
        newest = _newest(summary.saved, known.last_seen if known else None, job)
        return newest or _NEVER, summary.run

    newest = sorted(summaries.values(), key=seen, reverse=True)
    listed = newest if limit is None else newest[:limit]
    runs = early | _read_all(store, [s for s in listed if s.run not in early], jobs)
    return Overview(store.uri, tuple(runs[s.run] for s in listed), len(newest) - len(listed))


def _read_all(
    store: Store, summaries: Sequence[Summary], jobs: Mapping[str, JobState]
) -> dict[str, RunStatus]:
    """Return the status of several runs by name, which are read at the same time."""
    with DaemonExecutor(THREADS, "keepfit-status") as pool:
        found = pool.map(lambda s: status_of(store, s, jobs.get(s.run)), summaries)
        return {status.run: status for status in found}


def status_of(store: Store, summary: Summary, job: JobState | None = None) -> RunStatus:
    """Return the status of a run; its journals are read, unless it was moved aside.

    Raises:
        Transient: the store does not answer.
    """
    found, reason = read_run(store, summary)
    journals = found.journals
    return RunStatus(
        run=summary.run,
        state=summary.state,
        reason=reason,
        job=job,
        step=summary.step,
        attempts=summary.attempts or (job.attempts if job else 0),
        goodput=measure(journals) if journals else None,
        last_seen=_newest(summary.saved, last_record(journals), job),
    )


def read_run(store: Store, summary: Summary) -> tuple[RunJournals, str | None]:
    """Return the journals of a run, unless it was moved aside, and what can't be read of it.

    Raises:
        Transient: the store does not answer.
    """
    if summary.state in ("", "set aside"):
        return RunJournals(), summary.reason
    try:
        return read_journals(store, summary.run, first=summary.first_attempt), summary.reason
    except Transient:
        raise
    except StorageError as error:
        return RunJournals(), summary.reason or f"its journals can't be read: {error}"


def _newest(
    saved: datetime | None, recorded: datetime | None, job: JobState | None
) -> datetime | None:
    """Return the newest of these times that are known."""
    times = (saved, recorded, job.created if job else None)
    return max((time for time in times if time), default=None)


def last_record(journals: Sequence[Journal]) -> datetime | None:
    """Return when the newest attempt has last written its journal; None if it is not known."""
    if not journals:
        return None
    newest = journals[-1]
    try:
        return newest.process_started.astimezone(UTC) + timedelta(seconds=last_mark(newest).at)
    except OverflowError:  # a forged journal: the year 1 or 9999
        return None
