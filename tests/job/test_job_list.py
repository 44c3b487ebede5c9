"""`keepfit jobs`: state, progress, costs, and why a job waits."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from keepfit.callbacks.journal.document import Fit, Machine
from keepfit.callbacks.journal.terms import Reason
from keepfit.callbacks.storage import open_store
from keepfit.callbacks.storage.base import Damaged, Transient
from keepfit.infra.jobs.endings import Ending, explain
from keepfit.infra.jobs.lookup import Attempt, Job
from keepfit.infra.jobs.waiting import NO_REASON, REASONS, explain_wait
from keepfit.job.reports.jobs import Progress, RunRecords, read_jobs, status_of_job
from tests.checkpoint.samples import RUN, take_over
from tests.job.conftest import keepfit, refused, submit_pending_job
from tests.journal.factory import BEGAN, journal, write
from tests.s3.samples import small

NOW = BEGAN + timedelta(hours=1)
PREEMPTED = {"reason": Reason.PREEMPTED}


def a_job(name="id", status="RUNNING", reason="", run=RUN, codes=(75, None), **more):
    """Return a job whose attempts have ended with these codes; None: it still runs."""
    attempts = tuple(
        Attempt(n, name, BEGAN, NOW, code, "", None, None, "", explain(Ending(code)), n)
        for n, code in enumerate(codes, 1)
    )
    fields = {"store": "", "queue": "queue", "created": BEGAN, **more}
    return Job(name, "name", run, status, reason, attempts=attempts, **fields)


def unpriced(runs, now):
    """Return the journals as they are."""
    return tuple(map(tuple, runs)), ()


def machine(job, attempt=1, price=3600.0):
    return Machine(job=job, job_attempt=attempt, hourly_price=price)


@pytest.mark.parametrize("code", REASONS)
def test_why_a_job_waits(code):
    """The codes that AWS Batch documents are told in words, and stay to be searched for."""
    text = explain_wait(a_job(status="RUNNABLE", reason=f"{code} - some text of AWS"))
    assert text == f"{REASONS[code]} ({code})"
    assert not text.startswith(code)


def test_other_reasons_to_wait():
    """AWS' own text if it is no known code; a job that does not wait has none."""
    assert explain_wait(a_job(status="RUNNABLE", reason="NEW:CODE - x")) == "NEW:CODE - x"
    assert explain_wait(a_job(status="PENDING")) == NO_REASON
    assert explain_wait(a_job(reason="CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY")) == ""


@pytest.mark.parametrize(
    ("status", "codes", "reason", "expected"),
    [
        ("FAILED", (79,), "x", "the run has reached --max-hours or --max-cost"),
        ("FAILED", (75, 78), "x", "refused"),
        ("FAILED", (1,), "Essential container in task exited", "the script has failed"),
        ("FAILED", (None,), "Host EC2 (instance i-1) terminated.", "the machine was taken back"),
        ("FAILED", (), "", ""),
        ("SUCCEEDED", (0,), "Essential container in task exited", ""),
    ],
)
def test_why_a_job_has_ended(status, codes, reason, expected):
    """By its last attempt, or by AWS' own reason; in words."""
    found = status_of_job(a_job("id", status, reason, codes=codes), RunRecords(), NOW, newest=True)
    assert found.reason.startswith(expected)
    assert bool(found.reason) is bool(expected)


def test_cost_of_the_jobs_of_a_run():
    """Each job has the attempts that its id is in the journal of; others are named as missing."""
    record = RunRecords(
        journals=(
            journal(1, machine=machine("first"), **PREEMPTED),
            journal(2, started=60, resumed=100, machine=machine("first", 2), **PREEMPTED),
            journal(3, started=120, resumed=100, machine=machine("second", price=None), kill=True),
            journal(4, started=180, resumed=100, machine=machine("second", 2), kill=True),
        )
    )
    older = status_of_job(a_job("first", "FAILED", codes=(75, 75, None)), record, NOW, newest=False)
    assert (older.cost, older.uncounted) == (pytest.approx(13 + 3), 1)
    newest = status_of_job(a_job("second"), record, NOW, newest=True)
    assert (newest.cost, newest.uncounted) == (pytest.approx(3600 - 180), 1), "it still runs"
    waiting = status_of_job(a_job("third", "RUNNABLE", codes=()), record, NOW, newest=True)
    assert (waiting.cost, waiting.uncounted) == (None, 0)


def test_a_run_that_cant_be_read_hides_no_other(tmp_path):
    """A row each: no checkpoint yet, a damaged run, a store that does not answer, a foreign job."""
    store = open_store(f"file://{tmp_path}")
    take_over(store, keep=1).commit(small(3))
    fit = Fit(fit=0, step=0, elapsed={}, epochs=4)
    write(store, journal(run=RUN, machine=machine("good"), fits=(fit,)))
    asked = []

    class Broken:
        """A store whose runs can't be read."""

        def __init__(self, error):
            self.error = error

        def __getattr__(self, name):
            def fail(*_):
                asked.append(name)
                raise self.error

            return fail

    stores = {"down": Broken(Transient("no answer")), "bad": Broken(Damaged("of no use"))}
    jobs = [
        a_job("good"),
        a_job("old"),
        a_job("new", "RUNNABLE", run="no-checkpoint", codes=()),
        *(a_job(f"d{n}", run=f"r{n}", store="down") for n in range(30)),
        a_job("bad", run="r", store="bad"),
        a_job("foreign", run=""),
    ]
    found = read_jobs(jobs, "default", lambda uri: stores.get(uri, store), unpriced, NOW)
    rows = {row.job: row for row in found.jobs}
    assert [row.job for row in found.jobs] == [job.id for job in jobs]
    assert rows["good"].progress == Progress(1, 1, 3, "resumable", 4, 0)
    assert rows["old"].progress is None, "it is that of the newest job"
    assert rows["new"].reason == NO_REASON
    assert "does not answer: no answer" in rows["d7"].reason
    assert len(asked) < 10, "each of its runs has waited for the store"
    assert "of no use" in rows["bad"].reason
    assert rows["foreign"].run == "name"


def test_jobs_of_a_queue(deployed, aws, moto_server, monkeypatch):
    """Jobs without a checkpoint are in the list, which is bounded; what it lacks is named."""
    take_over(open_store(deployed.store), keep=1).commit(small(3))
    older = submit_pending_job(aws, deployed, moto_server, "run")
    newer = submit_pending_job(aws, deployed, moto_server, "waiting")
    found = json.loads(keepfit("jobs", "--json").stdout)
    assert {job["job"] for job in found["jobs"]} == {older, newer}
    assert (found["left_out"], found["unknown"]) == (0, [])
    (trained,) = [job for job in found["jobs"] if job["run"] == "run"]
    assert trained["progress"]["step"] == 3
    assert trained["cost"] is None
    printed = keepfit("jobs", "--active").stdout
    header, *rows = printed.splitlines()
    assert header.split() == ["run", "state", "attempts", "progress", "cost", "age", "reason"]
    assert len(rows) == 2
    assert any("epoch 1, step 3" in row for row in rows)
    monkeypatch.setattr("keepfit.job.commands.batch.job_list.NEWEST", 1)
    ended = keepfit("jobs")
    assert len(ended.stdout.splitlines()) == 2
    (line,) = ended.stderr.splitlines()
    assert "the newest 1 jobs of a queue are listed" in line
    assert "--all" in line
    assert len(keepfit("jobs", "--all").stdout.splitlines()) == 3


def test_without_a_deployment(aws):
    """One line names the command that creates one."""
    assert "keepfit infra up" in refused("jobs", code=78)
