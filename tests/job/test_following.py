"""`keepfit status`, `logs` and `cancel`."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from keepfit.callbacks.storage import open_store
from keepfit.infra.aws import AwsError
from keepfit.infra.jobs import machines
from keepfit.infra.jobs.costs import RecordedMachine, report_costs
from keepfit.infra.jobs.lookup import Attempt, Job, job_name, jobs_of, jobs_of_queue
from keepfit.infra.jobs.machines import Instance
from keepfit.job.cancellation import is_cancelled
from tests.checkpoint.samples import take_over
from tests.job.conftest import keepfit, refused, submit_pending_job
from tests.s3.proxy import Answer, Proxy
from tests.s3.samples import small

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
EMPTY_SCRIPT = Path(__file__).with_name("__init__.py")
"""An empty script."""

TOOL = Path(sys.executable).with_name("keepfit")


@pytest.fixture
def trained(deployed):
    """The run `run` has a checkpoint."""
    attempt = take_over(open_store(deployed.store), keep=1)
    attempt.commit(small(3))


def test_status_of_a_job(deployed, trained, aws, moto_server):
    """State from AWS Batch, checkpoint from the store; an unknown cost is shown as unknown."""
    job = submit_pending_job(aws, deployed, moto_server, "run")
    printed = keepfit("status", "run").stdout
    assert job in printed
    assert "PENDING" in printed or "SUBMITTED" in printed
    assert "step 3" in printed
    assert "nothing yet" in printed
    status = json.loads(keepfit("status", "run", "--json").stdout)
    assert status["id"] == job
    assert status["checkpoint"]["step"] == 3
    assert status["cost"]["so_far"] is None


def test_the_newest_job_of_the_run_is_shown(deployed, aws, script):
    """Runs with equal job names are distinguished; AWS Batch's job names can't have dots."""
    keepfit("submit", "--run", "a.b", script)
    keepfit("submit", "--run", "a-b", script)
    keepfit("submit", "--run", "a.b", script)
    assert job_name("a.b") == job_name("a-b")
    first, second = jobs_of(aws("batch"), deployed.queue, "a.b")
    assert first.created >= second.created
    assert json.loads(keepfit("status", "a.b", "--json").stdout)["id"] == first.id


def test_status_of_a_run_whose_job_has_expired(deployed, trained):
    """The checkpoint is still shown, from the store."""
    printed = keepfit("status", "run").stdout
    assert "AWS Batch has no job of this run any more" in printed
    assert "step 3" in printed
    assert json.loads(keepfit("status", "run", "--json").stdout)["checkpoint"]["step"] == 3


def test_status_of_a_queue(deployed, trained, aws, moto_server, monkeypatch):
    """All runs of the store and all jobs of the queue, the newest of each run."""
    monkeypatch.delenv("KEEPFIT_STORE", raising=False)
    submit_pending_job(aws, deployed, moto_server, "run")
    newest = submit_pending_job(aws, deployed, moto_server, "run")
    waiting = submit_pending_job(aws, deployed, moto_server, "waiting")
    found = json.loads(keepfit("status", "--json").stdout)
    assert found["store"] == deployed.store
    runs = {run["run"]: run for run in found["runs"]}
    assert sorted(runs) == ["run", "waiting"]
    assert runs["run"]["job"]["id"] == newest
    assert (runs["run"]["state"], runs["run"]["step"]) == ("resumable", 3)
    assert runs["waiting"]["job"]["id"] == waiting
    assert runs["waiting"]["state"] == ""
    printed = keepfit("status", "--queue", deployed.queue).stdout
    assert re.search("run +(PENDING|SUBMITTED), resumable +3", printed)
    newest_only = jobs_of_queue(aws("batch"), deployed.queue, 1)
    assert ([job.run for job in newest_only.jobs], newest_only.left_out) == (["waiting"], 2)


@pytest.mark.parametrize("command", ["status", "logs", "cancel"])
def test_no_such_run(deployed, command):
    """An unknown run is refused; the line names `keepfit ls`."""
    line = refused(command, "nothing", code=78)
    assert "knows no job of run 'nothing'" in line
    assert "keepfit ls" in line


def an_attempt(number, minutes, cluster="of-spot", **more):
    began, ended = NOW - timedelta(minutes=minutes), NOW
    machine = f"arn:aws:ecs:r:1:container-instance/{cluster}/id"
    return Attempt(**{
        "number": number, "job": "id", "began": began, "ended": ended, "code": 75, "reason": "",
        "machine": machine, "stream": None, **more,
    })  # fmt: skip


def a_job(*attempts):
    return Job("id", "run", "run", "RUNNING", "", NOW, "queue", "", attempts)


def price(dollars, minutes):
    """Return a Spot price that is valid since `minutes` ago."""
    return {
        "SpotPrice": dollars,
        "Timestamp": NOW - timedelta(minutes=minutes),
        "InstanceType": "c7i.xlarge",
        "AvailabilityZone": "eu-west-1b",
    }


def environment(kind, cluster):
    arn = f"arn:aws:ecs:r:1:cluster/{cluster}"
    return {"ecsClusterArn": arn, "computeResources": {"type": kind}}


class Clients:
    """Clients with fixed answers for services that no emulator has: machines and prices."""

    def __init__(self, instances=(), spot=(), products=()):
        self._answers = {
            "describe_container_instances": {"containerInstances": list(instances)},
            "describe_spot_price_history": {"SpotPriceHistory": list(spot)},
            "get_products": {"PriceList": list(products)},
            "describe_job_queues": {
                "jobQueues": [{"computeEnvironmentOrder": [{"computeEnvironment": "both"}]}]
            },
            "describe_compute_environments": {
                "computeEnvironments": [environment("SPOT", "of-spot"), environment("EC2", "other")]
            },
        }

    def __call__(self, service, region=None):
        return self

    def __getattr__(self, operation):
        return lambda **_: self._answers[operation]


INSTANCE = {
    "attributes": [
        {"name": "ecs.instance-type", "value": "c7i.xlarge"},
        {"name": "ecs.availability-zone", "value": "us-east-1a"},
        {"name": "ecs.capability.x"},
    ]
}
PRODUCT = json.dumps(
    {"terms": {"OnDemand": {"a": {"priceDimensions": {"b": {"pricePerUnit": {"USD": "0.20"}}}}}}}
)


def test_cost_of_the_attempts():
    """Hours of each attempt times the Spot price at that time, and the on-demand price."""
    client = Clients([INSTANCE], [price("0.07", 15), price("0.05", 9000)], [PRODUCT])
    report = report_costs(a_job(an_attempt(1, 30), an_attempt(2, 90)), client, "us-east-1", NOW)
    assert report.ran_on == {
        1: Instance("c7i.xlarge", "us-east-1a"),
        2: Instance("c7i.xlarge", "us-east-1a"),
    }
    assert report.so_far == pytest.approx(0.25 * (0.05 + 0.07) + 1.25 * 0.05 + 0.25 * 0.07)
    assert report.on_demand == pytest.approx(0.40)
    assert report.gaps == ()


def test_cost_of_machines_on_demand():
    """Attempts on on-demand machines cost the on-demand price, not the Spot price."""
    client = Clients([INSTANCE], [price("0.05", 9000)], [PRODUCT])
    job = a_job(an_attempt(1, 60), an_attempt(2, 60, cluster="other"))
    report = report_costs(job, client, "us-east-1", NOW)
    assert (report.so_far, report.on_demand) == (pytest.approx(0.25), pytest.approx(0.40))


def test_cost_of_machines_that_only_the_journals_know():
    """The machine and its price are those of the journal; AWS is asked for other attempts only."""
    client = Clients([INSTANCE], [price("0.05", 9000)], [PRODUCT])
    gone = Instance("m7i.large", "us-east-1c")
    recorded = {("id", 1): RecordedMachine(gone, 0.03, 0.1), ("id", 2): RecordedMachine(gone, 9, 9)}
    first, second = an_attempt(1, 60), an_attempt(2, 60, job="another", job_attempt=2)
    report = report_costs(a_job(first, second), client, "us-east-1", NOW, recorded)
    assert report.ran_on == {1: gone, 2: Instance("c7i.xlarge", "us-east-1a")}
    assert report.so_far == pytest.approx(0.03 + 0.05)
    assert report.on_demand == pytest.approx(0.1 + 0.2)
    assert report.gaps == ()
    without = report_costs(a_job(first), Clients(), "us-east-1", NOW, recorded)
    assert (without.so_far, without.gaps) == (pytest.approx(0.03), ())


def test_unknown_costs_are_reported():
    """Machines that are gone, and missing prices, are named as gaps."""
    gone = report_costs(a_job(an_attempt(1, 30)), Clients(), "us-east-1", NOW)
    assert (gone.so_far, gone.on_demand) == (None, None)
    (gap,) = gone.gaps
    assert gap.startswith("the machines of 1 attempts are gone, and no journal names them")
    priceless = report_costs(a_job(an_attempt(1, 30)), Clients([INSTANCE]), "us-east-1", NOW)
    assert priceless.gaps == (
        "EC2 has no Spot price of c7i.xlarge",
        "the price list has no c7i.xlarge in us-east-1",
    )


def test_calls_have_valid_parameters(aws, deployed):
    """moto has no such price, but it would refuse parameters that do not exist."""
    assert machines.on_demand_clusters(aws("batch"), deployed.queue) == frozenset()
    with pytest.raises(AwsError, match=r"no Spot price of m5\.none"):
        machines.spot_price(aws("ec2"), Instance("m5.none", "us-east-1a"), an_attempt(1, 30), NOW)


@pytest.fixture
def logged(deployed, aws, script, monkeypatch):
    """A job with a log stream. Return a function that writes to it."""
    keepfit("submit", "--run", "run", script)
    (job,) = jobs_of(aws("batch"), deployed.queue, "run")
    return log_of(aws, deployed, job)


def log_of(aws, deployed, job):
    """Create the log of the job's only attempt. Return a function that writes to it."""
    logs = aws("logs")
    stream = job.attempts[0].stream
    logs.create_log_stream(logGroupName=deployed.logs, logStreamName=stream)

    def write(*lines):
        stamp = int(datetime.now(UTC).timestamp() * 1000)
        logs.put_log_events(
            logGroupName=deployed.logs,
            logStreamName=stream,
            logEvents=[{"timestamp": stamp, "message": line} for line in lines],
        )

    return write


def test_logs(logged):
    """All lines in order, under the number of their attempt."""
    logged(*(f"line {n}" for n in range(3)))
    assert keepfit("logs", "run").stdout.splitlines() == [
        "=== attempt 1 ===",
        "line 0",
        "line 1",
        "line 2",
    ]
    assert keepfit("logs", "run", "--attempt", "1").stdout.splitlines() == [
        "line 0",
        "line 1",
        "line 2",
    ]


def test_logs_followed_to_the_end(logged):
    """Following ends when the job has ended."""
    logged("only line")
    assert keepfit("logs", "run", "-f").stdout.splitlines() == ["=== attempt 1 ===", "only line"]


def test_all_attempts_of_a_run(deployed, aws, script):
    """Attempts are numbered across all jobs of the run."""
    for _ in range(2):
        keepfit("submit", "--run", "run", "--fresh", script)
    second, first = jobs_of(aws("batch"), deployed.queue, "run")
    for job in (first, second):
        log_of(aws, deployed, job)(f"of {job.id}")
    expected = ["=== attempt 1 ===", f"of {first.id}", "=== attempt 2 ===", f"of {second.id}"]
    assert keepfit("logs", "run").stdout.splitlines() == expected
    assert keepfit("logs", "run", "--attempt", "2").stdout.splitlines() == [f"of {second.id}"]
    status = json.loads(keepfit("status", "run", "--json").stdout)
    assert [(a["number"], a["job"]) for a in status["attempts"]] == [(1, first.id), (2, second.id)]
    assert "has had 2 attempts" in refused("logs", "run", "--attempt", "3", code=2)


def test_following_is_ended_by_ctrl_c(deployed, aws, moto_server, monkeypatch):
    """Ctrl-C exits with 130, as in shells, without a stack trace."""
    submit_pending_job(aws, deployed, moto_server, "run")
    with Proxy(moto_server) as proxy:
        env = os.environ | {"AWS_ENDPOINT_URL": proxy.url}
        command = [TOOL, "logs", "run", "-f"]
        # A shell that runs the tests in the background lets them ignore SIGINT.
        restore_sigint = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        following = subprocess.Popen(
            command, env=env, stderr=subprocess.PIPE, text=True, preexec_fn=restore_sigint
        )
        proxy.wait_for_requests(6)  # after which it waits before the next poll
        following.send_signal(signal.SIGINT)
        _, err = following.communicate(timeout=60)
    assert (following.returncode, err) == (130, "")


def test_cancelled(deployed, trained, aws, moto_server):
    """The job ends, a further attempt would exit at once, and the checkpoint is kept."""
    job = submit_pending_job(aws, deployed, moto_server, "run")
    started, ended = keepfit("cancel", "run").stderr.splitlines()
    assert " keepfit: cancelling: run run, " in started
    assert " keepfit: cancelled: run run, " in ended
    assert ended.endswith(" kept epoch 1, batch 0 (step 3)")
    (cancelled,) = jobs_of(aws("batch"), deployed.queue, "run")
    assert cancelled.over
    attempt = attempt_of(job, deployed)
    assert attempt.returncode == 77, attempt.stderr
    line = json.loads(attempt.stderr)
    assert line["event"] == "cancelled"
    assert "keepfit submit --resume" in line["fix"]
    assert attempt_of("another", deployed).returncode == 0
    assert "is already over" in refused("cancel", "run", code=2)


def for_operation(name, fault):
    """Return a plan: the first request for that operation of AWS Batch gets the fault."""
    matched = []

    def plan(_, request):
        if request.path.endswith(name) and not matched:
            matched.append(request)
            return fault
        return None

    return plan


def answer(status, body):
    """Return a fault: an answer that replaces that of the server."""
    headers = [("Content-Type", "application/json"), ("x-amzn-ErrorType", "AccessDeniedException")]
    return lambda exchange: exchange.send(Answer(status, "Fixed", headers, body).to_bytes())


def test_cancelled_while_it_waits_for_another_machine(deployed, aws, moto_server, monkeypatch):
    """cancel asks again, as AWS Batch may retry after SIGTERM, and needs a machine to do so."""
    submit_pending_job(aws, deployed, moto_server, "run")
    with Proxy(moto_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        proxy.arm(for_operation("/terminatejob", answer(200, b"{}")))
        keepfit("cancel", "run")
        paths = [request.path for request in proxy.requests]
    assert sum(path.endswith("/terminatejob") for path in paths) >= 2


def test_cancel_without_permission(deployed, aws, moto_server, monkeypatch):
    """One line; the job continues, and its next attempt is not marked as cancelled."""
    job = submit_pending_job(aws, deployed, moto_server, "run")
    with Proxy(moto_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        proxy.arm(for_operation("/terminatejob", answer(403, b'{"message": "no"}')))
        assert f"job {job} was not terminated: TerminateJob is not allowed" in refused(
            "cancel", "run", code=78
        )
        assert not is_cancelled(open_store(deployed.store), job)


def attempt_of(job, deployed):
    """Run an attempt of the job with that id, as AWS Batch would."""
    env = {**os.environ, "AWS_BATCH_JOB_ID": job, "KEEPFIT_STORE": deployed.store}
    return subprocess.run(
        [TOOL, "run", EMPTY_SCRIPT], env=env, capture_output=True, text=True, check=False
    )
