"""`keepfit submit`: the submitted job, and input that is refused before anything is created."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keepfit.callbacks.storage import open_store
from keepfit.callbacks.storage.s3.retries import RetryPolicy
from keepfit.infra.jobs import request
from keepfit.job.code_archive import archive_key, download_archive
from tests.checkpoint.samples import take_over
from tests.job.conftest import keepfit, push, refused, submit_pending_job
from tests.s3.proxy import Proxy, s3_error
from tests.s3.samples import small


def submitted(aws, queue):
    """Return all jobs in the queue, as AWS Batch describes them."""
    jobs = []
    for status in (
        "SUBMITTED",
        "PENDING",
        "RUNNABLE",
        "STARTING",
        "RUNNING",
        "SUCCEEDED",
        "FAILED",
    ):
        listed = aws("batch").list_jobs(jobQueue=queue, jobStatus=status)["jobSummaryList"]
        jobs += [job["jobId"] for job in listed]
    return aws("batch").describe_jobs(jobs=jobs)["jobs"] if jobs else []


def variables(job):
    return {v["name"]: v["value"] for v in job["container"]["environment"]}


def code_of(job):
    command = job["container"]["command"]
    return command[command.index("--code") + 1]


def test_submitted_job(deployed, aws, script):
    """The job has the code by its digest, run and store by name, and the given settings."""
    printed = keepfit(
        *("submit", "--run", "first.run", "--vcpus", "4", "--memory", "8GiB"),
        *("--save-every", "5min", "--deterministic", "--env", "RATE=0.1"),
        *("--hourly-price", "0.07", "--env", "KEEPFIT_ON_DEMAND_PRICE=0.2"),
        *(script, "--epochs", "3"),
    ).stdout
    assert "keepfit status first.run" in printed
    assert "keepfit logs first.run -f" in printed
    (job,) = submitted(aws, deployed.queue)
    assert job["jobName"] == "first-run"
    assert job["jobDefinition"] == deployed.job
    *flags, code, name, option, value = job["container"]["command"]
    assert flags == ["run", "--deterministic", "--code"]
    assert (name, option, value) == ("train.py", "--epochs", "3")
    expected = {"KEEPFIT_RUN": "first.run", "KEEPFIT_STORE": deployed.store, "RATE": "0.1"}
    expected |= {"KEEPFIT_HOURLY_PRICE": "0.07", "KEEPFIT_ON_DEMAND_PRICE": "0.2"}
    assert variables(job).items() >= (expected | {"KEEPFIT_SAVE_EVERY": "5min"}).items()
    assert job["tags"]["keepfit:run"] == "first.run"
    folder = download_archive(open_store(deployed.store), code, "first.run")
    assert sorted(path.name for path in folder.iterdir()) == [
        ".dockerignore",
        "helper.py",
        "train.py",
    ]
    assert keepfit("ls", deployed.store).stdout.splitlines()[1:] == [], "code is listed as a run"


def test_options_of_s3_reach_the_job(deployed, aws, script, monkeypatch):
    """The job encrypts as this process does; a contradiction is refused before anything exists."""
    monkeypatch.setenv("KEEPFIT_S3_SSE", "aws:kms")
    monkeypatch.setenv("KEEPFIT_S3_REQUEST_PAYER", "1")
    line = refused("submit", "--env", "KEEPFIT_S3_EXPECTED_BUCKET_OWNER=me", script, code=78)
    assert "KEEPFIT_S3_EXPECTED_BUCKET_OWNER must be the 12 digits" in line
    line = refused("submit", "--env", "KEEPFIT_S3_SSE=none", script, code=78)
    assert "KEEPFIT_S3_SSE must be one of" in line
    assert_nothing_was_created(aws, deployed)
    keepfit("submit", "--env", "KEEPFIT_S3_SSE=AES256", script)
    (job,) = submitted(aws, deployed.queue)
    expected = {"KEEPFIT_S3_SSE": "AES256", "KEEPFIT_S3_REQUEST_PAYER": "1"}
    assert variables(job).items() >= expected.items()
    bucket, _, prefix = deployed.store.removeprefix("s3://").partition("/")
    (code,) = aws("s3").list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/.code/")["Contents"]
    stored = aws("s3").head_object(Bucket=bucket, Key=code["Key"])
    assert stored["ServerSideEncryption"] == "aws:kms"


def test_options_that_contradict_the_definition(deployed, aws, script, monkeypatch):
    """The variables of the definition count too: every attempt would be refused by them."""
    described = aws("batch").describe_job_definitions(jobDefinitions=[deployed.job])
    (base,) = described["jobDefinitions"]
    with_key = {"name": "KEEPFIT_S3_KMS_KEY_ID", "value": "alias/runs"}
    base["containerProperties"]["environment"].append(with_key)
    monkeypatch.setattr(request, "describe_definition", lambda *_: base)
    monkeypatch.setenv("KEEPFIT_S3_SSE", "AES256")
    line = refused("submit", script, code=78)
    assert "KEEPFIT_S3_KMS_KEY_ID needs KEEPFIT_S3_SSE=aws:kms" in line
    assert_nothing_was_created(aws, deployed)


def test_defaults(deployed, aws, script):
    """The run is named after the script, and the command has no options."""
    keepfit("submit", script)
    (job,) = submitted(aws, deployed.queue)
    assert variables(job)["KEEPFIT_RUN"] == "train"
    assert job["container"]["command"][-1] == "train.py"


@pytest.mark.parametrize(
    ("needs", "expected"),
    [
        ({}, {"VCPU": "2", "MEMORY": "4096"}),
        ({"vcpus": 8, "gpus": 1}, {"VCPU": "8", "MEMORY": "4096", "GPU": "1"}),
        ({"memory": 8192}, {"VCPU": "2", "MEMORY": "8192"}),
    ],
)
def test_resources(deployed, aws, needs, expected):
    """Resources that are not requested are the definition's. (moto keeps no resources of a job.)"""
    base = request.describe_definition(aws("batch"), deployed.job)
    overrides = request.overrides(request.JobRequest("run", ["run"], needs=needs), base)
    resources = overrides["resourceRequirements"]
    assert {resource["type"]: resource["value"] for resource in resources} == expected


def test_another_image(deployed, aws, script):
    """It has a definition, registered once, that differs from the deployment's by the image."""
    push(aws, deployed.repository.partition("/")[2], "mine")
    image = f"{deployed.repository}:mine"
    keepfit("submit", "--image", image, "--run", "a1", script)
    keepfit("submit", "--image", image, "--run", "a2", script)
    first, second = submitted(aws, deployed.queue)
    assert first["jobDefinition"] == second["jobDefinition"] != deployed.job
    described = aws("batch").describe_job_definitions
    (own,) = described(jobDefinitions=[first["jobDefinition"]])["jobDefinitions"]
    (base,) = described(jobDefinitions=[deployed.job])["jobDefinitions"]
    assert own["containerProperties"].pop("image") == image
    assert base["containerProperties"].pop("image") == f"{deployed.repository}:latest"
    assert own["containerProperties"] == base["containerProperties"]
    assert own["retryStrategy"] == base["retryStrategy"]
    assert own["jobDefinitionName"].startswith("keepfit-compute-"), "no resubmission"


def assert_nothing_was_created(aws, deployed):
    """Assert that there is no job, no code, and no further definition."""
    assert submitted(aws, deployed.queue) == []
    assert list(open_store(deployed.store).list(".code/")) == []
    definitions = aws("batch").describe_job_definitions(status="ACTIVE")["jobDefinitions"]
    assert [d["jobDefinitionArn"] for d in definitions] == [deployed.job]


def test_a_run_that_exists(deployed, aws, script):
    """An existing run needs --resume or --fresh."""
    attempt = take_over(open_store(deployed.store), keep=1)
    attempt.commit(small(3))
    line = refused("submit", "--run", "run", script, code=2)
    assert "has a run 'run' already (resumable)" in line
    assert "--resume" in line
    assert "--fresh" in line
    assert_nothing_was_created(aws, deployed)
    keepfit("submit", "--run", "run", "--resume", script)
    keepfit("submit", "--run", "run", "--fresh", script)
    first, second = submitted(aws, deployed.queue)
    assert "KEEPFIT_FRESH" not in variables(first)
    assert variables(first)["KEEPFIT_RESUME"] == "1"
    assert "KEEPFIT_RESUME" not in variables(second)
    assert variables(second)["KEEPFIT_FRESH"] == "1"


def test_a_run_with_an_active_job(deployed, aws, script, moto_server):
    """A second job is refused: two jobs of a run would fence each other."""
    submit_pending_job(aws, deployed, moto_server, "train")
    line = refused("submit", "--resume", script, code=2)
    assert "has a job already" in line
    assert "keepfit cancel train" in line
    assert len(submitted(aws, deployed.queue)) == 1


BAD_INPUT = [
    (["--image", "{repository}:nowhere"], 78, ["there is no image", ":nowhere", "push"]),
    (["--queue", "nowhere"], 78, ["there is no job queue 'nowhere'", "infra status"]),
    (["--name", "nowhere"], 78, ["there is no stack 'nowhere-storage'", "infra up"]),
    (["--gpus", "1"], 78, ["no machine of c6a, c6i,", "1 GPUs", "--gpu"]),
    (["--memory", "9000GiB"], 78, ["9216000 MiB", "the largest has"]),
    (["--vcpus", "65"], 78, ["machines together may have 64", "--max-vcpus"]),
    (["--store", "file:///runs"], 2, ["s3://BUCKET/PREFIX", "file:///runs"]),
    (["--resume"], 2, ["has no run 'train' to continue", "keepfit ls"]),
    (["--env", "AWS_BATCH_X=secret"], 2, ["--env='AWS_BATCH_X'"]),
    (["--memory", "lots"], 2, ["8GiB", "--memory='lots'"]),
    (["--env", "RATE"], 2, ["NAME=VALUE"]),
    (["--run", "no/name"], 2, ["the name of a run has up to 128"]),
    (["--save-every", "sometimes"], 2, ["save_every"]),
    (["--store", "s3://nowhere-at-all/runs"], 78, ["not to s3://nowhere-at-all/runs", "--policy"]),
    (["--store", "{store}-2"], 78, ["have access to {store} only", "--name NAME --prefix PREFIX"]),
    (["--store", "s3://{bucket}"], 78, ["have access to {store} only", "not to s3://{bucket}:"]),
]


def test_bad_input(deployed, aws, script):
    """Bad input is one line that names it, and nothing is created."""
    for options, code, words in BAD_INPUT:
        arguments = [part.format(**vars(deployed)) for part in options]
        line = refused("submit", *arguments, script, code=code)
        assert all(word.format(**vars(deployed)) in line for word in words), line
        assert_nothing_was_created(aws, deployed)


def test_another_store(deployed, aws, script):
    """The role has access to all below the deployment's; outside, a policy of it has to give it."""
    inside = f"{deployed.store}/of-mine"
    assert "store outside" not in keepfit("submit", "--store", f"{inside}/", script).stderr
    keepfit("infra", "up", "--yes", "--policy", "arn:aws:iam::aws:policy/AmazonS3FullAccess")
    aws("s3").create_bucket(Bucket="of-mine")
    ended = keepfit("submit", "--store", "s3://of-mine/runs", "--run", "other", script)
    assert "warning: store outside: store s3://of-mine/runs" in ended.stderr
    stores = {variables(job)["KEEPFIT_STORE"].rstrip("/") for job in submitted(aws, deployed.queue)}
    assert stores == {inside, "s3://of-mine/runs"}


def test_a_folder_that_is_too_large(deployed, aws, script):
    """The line names the large folder and both fixes: .dockerignore and --max-size."""
    (script.parent / ".dockerignore").unlink()
    line = refused("submit", "--max-size", "1", script, code=2)
    assert all(word in line for word in ("data: 2 MiB", ".dockerignore", "--max-size")), line
    assert_nothing_was_created(aws, deployed)


def test_a_queue_that_is_disabled(deployed, aws, script):
    """The line has the command that enables it."""
    aws("batch").update_job_queue(jobQueue=deployed.queue, state="DISABLED")
    line = refused("submit", script, code=78)
    assert "is disabled" in line
    assert "update-job-queue --state ENABLED" in line
    assert_nothing_was_created(aws, deployed)


def test_a_script_by_another_name(deployed, aws, script, tmp_path):
    """A link to a script: as with `python`, its imports are beside the link's target."""
    (tmp_path / "link.py").symlink_to(script)
    keepfit("submit", tmp_path / "link.py")
    (job,) = submitted(aws, deployed.queue)
    assert variables(job)["KEEPFIT_RUN"] == "link"
    assert job["container"]["command"][-1] == "train.py"
    assert (
        download_archive(open_store(deployed.store), code_of(job), "link") / "train.py"
    ).is_file()


def test_a_module(deployed, aws, script, monkeypatch):
    """The current folder is uploaded, and the job starts the module in it."""
    package = script.parent / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "train.py").write_text("print(1)")
    monkeypatch.chdir(script.parent)
    keepfit("submit", "-m", "package.train", "--epochs", "3")
    (job,) = submitted(aws, deployed.queue)
    assert variables(job)["KEEPFIT_RUN"] == "package.train"
    assert job["container"]["command"][-4:] == ["-m", "package.train", "--epochs", "3"]
    folder = download_archive(open_store(deployed.store), code_of(job), "package.train")
    assert (folder / "package/train.py").is_file()
    line = refused("submit", "-m", "none.train", code=2)
    assert "no module 'none.train'" in line


def test_a_queue_without_machines(deployed, aws, script):
    """The line names the queue's compute environment and its state."""
    (spot,) = aws("batch").describe_compute_environments()["computeEnvironments"]
    name = spot["computeEnvironmentName"]
    aws("batch").update_compute_environment(computeEnvironment=name, state="DISABLED")
    line = refused("submit", script, code=78)
    assert f"has no machines: compute environment {name} is DISABLED" in line
    assert_nothing_was_created(aws, deployed)


def test_without_permission_to_list_instance_types(deployed, moto_server, script, monkeypatch):
    """If the instance types are unknown, no resource request is refused."""
    denied = s3_error(403, "UnauthorizedOperation")
    with Proxy(moto_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        proxy.arm(lambda _, r: denied if b"DescribeInstanceTypes" in r.body else None)
        keepfit("submit", "--gpus", "1", script)


def test_printed_commands(deployed, aws, script):
    """The printed commands work as they are."""
    printed = keepfit("submit", "--queue", deployed.queue, script).stdout
    assert f"  keepfit status train --queue {deployed.queue}\n" in printed
    keepfit("status", "train", "--queue", deployed.queue)


def test_no_script(deployed, tmp_path):
    """A missing script is refused before AWS is asked for anything."""
    assert "there is no script" in refused("submit", tmp_path / "none.py", code=2)


def test_no_credentials(deployed, script, monkeypatch):
    """One line says that none were found, and where they are looked for."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert "no AWS credentials were found" in refused("submit", script, code=78)


def test_an_empty_account(aws, script):
    """The line names the missing stack and the command that creates it."""
    line = refused("submit", script, code=78)
    assert "there is no stack 'keepfit-storage'" in line
    assert "keepfit infra up" in line


def test_the_job_runs_what_was_submitted(deployed, aws, script, tmp_path):
    """On a machine with only the store, the script runs with its folder and arguments."""
    keepfit("submit", script, "--x", "1")
    (job,) = submitted(aws, deployed.queue)
    machine = tmp_path / "machine"
    machine.mkdir()
    tool = Path(sys.executable).with_name("keepfit")
    env = {**os.environ, **variables(job), "TMPDIR": str(machine), "AWS_BATCH_JOB_ID": job["jobId"]}
    command = [tool, *job["container"]["command"]]
    ran = subprocess.run(command, cwd=machine, env=env, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "helper of mine ['--x', '1']\n"), ran.stderr


def refused_run(code, *words, **env):
    """Assert that `keepfit run` refuses code that can't be downloaded."""
    line = json.loads(refused("run", "--code", "0" * 64, "train.py", code=code))
    assert all(word in line["reason"] for word in words), line


def test_code_that_is_missing_or_damaged(deployed, aws, script, monkeypatch):
    """It exits with 78, as a retry would not help; the line has the fix."""
    monkeypatch.setenv("KEEPFIT_STORE", deployed.store)
    refused_run(78, "has no code 0000", "submit the job again")
    open_store(deployed.store).put(archive_key("0" * 64), [b"not what it was"])
    refused_run(78, "is damaged", "submit the job again")


def test_store_that_does_not_answer(monkeypatch, aws):
    """It exits with the configured code for a preemption, for which AWS Batch retries."""
    monkeypatch.setenv("KEEPFIT_STORE", "s3://somewhere/runs")
    monkeypatch.setenv("KEEPFIT_PREEMPTED_EXIT_CODE", "143")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    _, *others = RetryPolicy.__init__.__defaults__
    monkeypatch.setattr(RetryPolicy.__init__, "__defaults__", (1.0, *others))  # seconds, not 60
    *_, line = keepfit("run", "--code", "0" * 64, "train.py", code=143).stderr.splitlines()
    assert "was not reached" in json.loads(line)["reason"]
