"""The jobs of a queue with the progress and the costs of their runs: what `keepfit jobs` lists."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from keepfit.callbacks.checkpoint.read import inspection
from keepfit.callbacks.checkpoint.read.inspection import Summary
from keepfit.callbacks.daemon_executor import DaemonExecutor
from keepfit.callbacks.errors import ConfigurationError
from keepfit.callbacks.journal.document import Journal
from keepfit.callbacks.journal.goodput import measure
from keepfit.callbacks.storage.base import StorageError, Store, Transient
from keepfit.infra.jobs.endings import Ending, explain
from keepfit.infra.jobs.lookup import Job
from keepfit.infra.jobs.waiting import explain_wait
from keepfit.job.reports.overview import THREADS, read_run
from keepfit.job.reports.prices import PricedRuns

RunKey = tuple[str, str]
"""A store and a run in it."""


@dataclass(frozen=True)
class Progress:
    """The newest checkpoint of a run.

    Attributes:
        fit, epoch: its position, counted from 1.
        epochs: the epochs that the fit is asked for; None if that is not known.
        step: batches done in the run.
        percent: the finished epochs of these, in percent; None if `epochs` is not known.
        state: of the run, as `keepfit ls` shows it.
    """

    fit: int
    epoch: int
    step: int
    state: str
    epochs: int | None = None
    percent: int | None = None


@dataclass(frozen=True)
class JobStatus:
    """A job in the list.

    Attributes:
        state: its state in AWS Batch.
        reason: why it waits, why it has ended, or why its run can't be read; empty otherwise.
        progress: of its run; None before the first checkpoint, and for an older job of a run.
        cost: dollars for the attempts of this job that are counted; None if none is.
        uncounted: number of its attempts that are not, since their price or journal is missing.
    """

    job: str
    run: str
    state: str
    reason: str
    attempts: int
    progress: Progress | None
    cost: float | None
    uncounted: int
    created: datetime


@dataclass(frozen=True)
class JobList:
    """The listed jobs, the newest first; `gaps` says why prices are not known."""

    jobs: tuple[JobStatus, ...]
    gaps: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunRecords:
    """What the store has of a run; `problem` says why that is not all."""

    summary: Summary | None = None
    journals: tuple[Journal, ...] = ()
    problem: str = ""


def read_jobs(
    jobs: Sequence[Job],
    default: str,
    open_store: Callable[[str], Store],
    prices: PricedRuns,
    now: datetime,
) -> JobList:
    """Return the status of jobs, the newest first.

    A run that can't be read does not hide the others; a store that does not answer is asked once.

    Args:
        default: the URI of the store of jobs that name none.
        prices: finds the prices that journals lack.
    """
    keys = list(dict.fromkeys((job.store or default, job.run) for job in jobs if job.run))
    reader = _Reader(open_store)
    with DaemonExecutor(THREADS, "keepfit-jobs") as pool:
        records = dict(zip(keys, pool.map(reader.read, keys), strict=True))
    filled, gaps = prices([record.journals for record in records.values()], now)
    for key, journals in zip(keys, filled, strict=True):
        records[key] = replace(records[key], journals=journals)
    listed, seen = [], set[RunKey]()
    for job in jobs:
        key = (job.store or default, job.run)
        record = records.get(key, RunRecords())
        listed.append(status_of_job(job, record, now, newest=key not in seen))
        seen.add(key)
    return JobList(tuple(listed), gaps)


def status_of_job(job: Job, record: RunRecords, now: datetime, *, newest: bool) -> JobStatus:
    """Return the status of a job.

    Args:
        newest: no newer job of its run is listed.
    """
    own = [journal.attempt for journal in record.journals if journal.machine.job == job.id]
    measured = measure(record.journals, now if newest and job.status == "RUNNING" else None)
    paid = [a.paid for a in measured.attempts if a.attempt in own and a.paid is not None]
    begun = sum(attempt.began is not None for attempt in job.attempts)
    return JobStatus(
        job=job.id,
        run=job.run or job.name,
        state=job.status,
        reason=explain_wait(job) or _explain_end(job) or record.problem,
        attempts=len(job.attempts),
        progress=_progress(record) if newest else None,
        cost=math.fsum(paid) if paid else None,
        uncounted=max(0, begun - len(paid)),
        created=job.created,
    )


def _explain_end(job: Job) -> str:
    """Return why a job has failed, by its last attempt or its own reason; empty otherwise."""
    if job.status != "FAILED":
        return ""
    told = job.attempts[-1].explanation if job.attempts else ""
    return told or explain(Ending(None, status=job.reason))


def _progress(record: RunRecords) -> Progress | None:
    found = record.summary
    if found is None or found.fit is None or found.epoch is None or found.step is None:
        return None
    asked = [fit.epochs for j in record.journals for fit in j.fits if fit.fit == found.fit - 1]
    epochs = asked[-1] if asked else None
    percent = None
    if found.state == "finished":
        percent = 100
    elif epochs:
        percent = min(100, (found.epoch - 1) * 100 // epochs)
    return Progress(found.fit, found.epoch, found.step, found.state, epochs, percent)


class _Reader:
    """Reads runs, on several threads; a store that does not answer is not asked again."""

    def __init__(self, open_store: Callable[[str], Store]) -> None:
        self._open = open_store
        self._problems: dict[str, str] = {}

    def read(self, key: RunKey) -> RunRecords:
        """Return what the store has of a run."""
        uri, run = key
        if problem := self._problems.get(uri):
            return RunRecords(problem=problem)
        try:
            store = self._open(uri)
            summary = inspection.summarize(store, run)
            found, reason = read_run(store, summary)
        except inspection.NoSuchRun:
            return RunRecords()
        except Transient as error:
            self._problems[uri] = f"the store does not answer: {error}"
            return RunRecords(problem=self._problems[uri])
        except (StorageError, ConfigurationError, OSError) as error:
            return RunRecords(problem=f"the run can't be read: {error}")
        return RunRecords(summary, found.journals, reason or "")
