"""`submit --secret` and `infra up --secret`: a job has a secret that no one else can read."""

from __future__ import annotations

import json
from ast import literal_eval

import boto3
import pytest

from keepfit.infra import deployment
from keepfit.infra.jobs.secret_arns import is_key_arn, is_secret_arn, stored_secret
from tests.job.conftest import keepfit, push, refused
from tests.job.test_submission import assert_nothing_was_created, submitted, variables

SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:team/key-AbC123"
PARAMETER = "arn:aws:ssm:us-east-1:123456789012:parameter/team/token"
KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"

ARNS = [
    (SECRET, SECRET),
    (f"{SECRET}:password::", SECRET),
    (f"{SECRET}::AWSPREVIOUS:", SECRET),
    (f"{SECRET}:db.user:AWSCURRENT:0a1b-2c", SECRET),
    (PARAMETER, PARAMETER),
    (SECRET.replace("aws:", "aws-cn:", 1), SECRET.replace("aws:", "aws-cn:", 1)),
    (SECRET.replace("us-east-1", "us-gov-west-1"), SECRET.replace("us-east-1", "us-gov-west-1")),
]


@pytest.mark.parametrize(("arn", "stored"), ARNS)
def test_an_arn(arn, stored):
    """A part or a version of a secret is named after the ARN; a policy names the whole secret."""
    assert is_secret_arn(arn)
    assert stored_secret(arn) == stored


NO_ARNS = [
    "",
    "hunter2",
    SECRET.removesuffix("-AbC123"),
    f"{SECRET}:password",
    f"{SECRET}:password:::",
    f"{SECRET}\n",
    f"{PARAMETER}:a::",
    f"{PARAMETER}*",
    PARAMETER.replace("123456789012", ""),
    SECRET.replace(":secret:", ":parameter/"),
    KEY,
]


@pytest.mark.parametrize("arn", NO_ARNS)
def test_no_arn(arn):
    """Anything else is no ARN of a secret, wildcards and names without their suffix included."""
    assert not is_secret_arn(arn)


def test_the_arn_of_a_key():
    """A policy names a key by its id, not by an alias."""
    assert is_key_arn(KEY)
    assert not is_key_arn(KEY.replace("key/", "alias/"))


@pytest.fixture
def deployed(aws):
    """A deployment whose jobs may have two secrets, and an image in its repository."""
    keepfit(
        *("infra", "up", "--yes", "--secret", SECRET, "--secret", f"{PARAMETER}"),
        *("--secret-key", KEY),
    )
    deployed = deployment.find_deployment(boto3.client("cloudformation"))
    push(aws, deployed.repository.partition("/")[2], "latest")
    return deployed


def test_a_job_with_secrets(deployed, aws, script):
    """Its definition names them by ARN, and the role that reads them; nothing has their values."""
    printed = keepfit(
        *(
            "submit",
            "--secret",
            f"API_KEY={SECRET}:key::",
            "--secret",
            f"KEEPFIT_NOTIFY={PARAMETER}",
        ),
        *("--env", "RATE=0.1", script),
    )
    (job,) = submitted(aws, deployed.queue)
    described = aws("batch").describe_job_definitions
    (own,) = described(jobDefinitions=[job["jobDefinition"]])["jobDefinitions"]
    (base,) = described(jobDefinitions=[deployed.job])["jobDefinitions"]
    assert own["containerProperties"].pop("secrets") == [
        {"name": "API_KEY", "valueFrom": f"{SECRET}:key::"},
        {"name": "KEEPFIT_NOTIFY", "valueFrom": PARAMETER},
    ]
    base["containerProperties"].pop("secrets", None)
    for definition in (own, base):
        definition["containerProperties"].pop("image")  # it is pinned
    assert own["containerProperties"] == base["containerProperties"]
    assert own["jobDefinitionName"].startswith("keepfit-compute-"), "no resubmission"
    assert not {"API_KEY", "KEEPFIT_NOTIFY"} & variables(job).keys()
    assert "visible in job" not in printed.stderr
    assert sorted(deployed.secrets) == sorted([SECRET, PARAMETER])


def test_the_execution_role(deployed, aws):
    """It may read exactly these secrets, and use the key only by way of their services."""
    (base,) = aws("batch").describe_job_definitions(jobDefinitions=[deployed.job])["jobDefinitions"]
    role = base["containerProperties"]["executionRoleArn"].rpartition("/")[2]
    policy = aws("iam").get_role_policy(RoleName=role, PolicyName="secrets")["PolicyDocument"]
    secrets, keys = literal_eval(policy)["Statement"]  # moto stores its repr
    assert sorted(secrets["Action"]) == ["secretsmanager:GetSecretValue", "ssm:GetParameters"]
    assert sorted(secrets["Resource"]) == sorted([SECRET, PARAMETER])
    assert (keys["Action"], keys["Resource"]) == ("kms:Decrypt", [KEY])
    assert keys["Condition"] == {"StringLike": {"kms:ViaService": ["secretsmanager.*", "ssm.*"]}}


OTHER = SECRET.replace("team/key", "team/other")
BAD_INPUT = [
    (["--secret", "API_KEY=hunter2"], 2, ["--secret API_KEY=…", "arn:aws:secretsmanager:"]),
    (["--secret", "hunter2"], 2, ["NAME=ARN", "--secret number 1"]),
    (["--env", "hunter2"], 2, ["NAME=VALUE", "--env number 1"]),
    (["--secret", f"AWS_BATCH_X={SECRET}"], 2, ["AWS_BATCH…", "--secret='AWS_BATCH_X'"]),
    (["--secret", f"A={SECRET}", "--secret", f"A={PARAMETER}"], 2, ["A is given more than once"]),
    (["--secret", f"A={SECRET}", "--env", "A=hunter2"], 2, ["A is given more than once"]),
    (["--secret", f"KEEPFIT_RUN={SECRET}"], 2, ["KEEPFIT_RUN is given more than once"]),
    (["--secret", f"KEEPFIT_NOTIFY={SECRET}", "--notify", "https://h/"], 2, ["KEEPFIT_NOTIFY is"]),
    (["--notify", "h.example/hunter2"], 2, ["number 1", "http(s)://"]),
    (["--secret", f"AWS_REGION={SECRET}"], 78, ["sets AWS_REGION itself"]),
    (["--secret", f"A={OTHER}:key::"], 78, [f"may read {OTHER}: run", f"--secret {PARAMETER}"]),
    (["--store", "s3://me:hunter2@bucket/runs"], 2, ["no user, password", "s3://***@bucket/runs"]),
    (["--store", "s3://bucket/runs?key=hunter2"], 2, ["s3://bucket/runs?***"]),
]


def test_bad_input(deployed, aws, script):
    """It is one line that names the variable, never its value, and nothing is created."""
    for options, code, words in BAD_INPUT:
        line = refused("submit", *options, script, code=code)
        assert all(word in line for word in words), line
        assert "hunter2" not in line
    assert_nothing_was_created(aws, deployed)


def test_a_deployment_without_secrets(aws, script):
    """The line has the command that gives its jobs the secret."""
    keepfit("infra", "up", "--yes")
    line = refused("submit", "--secret", f"API_KEY={SECRET}:key::", script, code=78)
    assert f"`keepfit infra up --secret {SECRET}`" in line
    for option, value in (("--secret", "hunter2"), ("--secret-key", "hunter2")):
        line = refused("infra", "up", "--yes", option, value, code=2)
        assert option in line
        assert "hunter2" not in line


def test_what_aws_batch_shows(deployed, aws, script):
    """A value that seems to be secret is submitted, and one line says who can read it."""
    done = keepfit(
        *("submit", "--env", "HF_TOKEN=hunter2", "--env", "KEEPFIT_WATCH=https://h/?k=hunter2"),
        *("--notify", "https://h.example/hunter2", "--notify", "https://other.example"),
        *("--env", "RATE=0.1", script, "--api-key", "hunter2"),
    )
    warning, info = done.stderr.splitlines()
    assert (
        " keepfit: warning: visible in job: variables HF_TOKEN, KEEPFIT_WATCH, KEEPFIT_NOTIFY, "
        "arguments yes: "
    ) in warning
    assert "; fix: pass a secret with --secret" in warning
    assert " keepfit: submitted: " in info
    assert "hunter2" not in done.stderr + done.stdout
    shown = keepfit("status", "train").stdout + keepfit("status", "train", "--json").stdout
    assert "hunter2" not in shown
    (job,) = submitted(aws, deployed.queue)
    assert variables(job).pop("HF_TOKEN") == "hunter2"
    addresses = "https://h.example/hunter2 https://other.example"
    assert variables(job)["KEEPFIT_NOTIFY"] == addresses
    # The script needs them, so they stand where AWS Batch shows them, and nowhere else.
    del job["container"]["command"], job["container"]["environment"]
    definitions = aws("batch").describe_job_definitions()["jobDefinitions"]
    assert "hunter2" not in json.dumps([job, definitions], default=str)
