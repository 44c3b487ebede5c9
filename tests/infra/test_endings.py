"""The table of docs/endings.md: what follows from each end of an attempt, as AWS Batch reports it.

The page is the source of the cases, so that it can't differ from what the templates, the function
and `keepfit status` do.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import boto3
import pytest
from cfnlint.decode.cfn_yaml import load

from keepfit.infra.functions import resubmit
from keepfit.infra.jobs.costs import CostReport
from keepfit.infra.jobs.endings import Ending, explain
from keepfit.infra.jobs.lookup import _attempt, _job
from keepfit.job.commands.batch.job_tables import job_table
from tests.containers import batch
from tests.e2e.process import ROOT
from tests.infra.batch_events import rule_matches, state_change
from tests.infra.conftest import use_endpoint

PAGE = (ROOT / "docs/endings.md").read_text()
VARIABLES = {"KEEPFIT_RUN": "mnist", "KEEPFIT_STORE": "s3://bucket/runs"}
COLUMNS = "| code | reason of the container | status reason | Batch | last | mail | "


@dataclass(frozen=True)
class Case:
    """A row of the page."""

    ending: Ending
    batch: str
    last: str
    mail: str
    shown: str

    @classmethod
    def of(cls, row):
        code, reason, status, *expected = (cell.strip() for cell in row.strip("|").split("|"))
        ending = Ending(None if code == "none" else int(code), reason, status or batch.ORDINARY)
        return cls(ending, *expected)

    def name(self):
        """Return the beginning of what distinguishes the ending."""
        return f"{self.ending.code} {self.ending.reason[-30:]} {self.ending.status[:30]}"

    @property
    def container(self):
        """The container of the job, as DescribeJobs and events have it."""
        fields = {"exitCode": self.ending.code, "reason": self.ending.reason}
        return {name: value for name, value in fields.items() if value not in (None, "")}


def rows():
    _, found, table = PAGE.partition(COLUMNS)
    assert found
    return [Case.of(line) for line in table.split("\n\n")[0].splitlines()[2:]]


@pytest.fixture(scope="module")
def events(localstack_server):
    """A client of LocalStack's EventBridge: one for all cases, as it takes long to create."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_endpoint(localstack_server, monkeypatch)
        client = boto3.client("events")
    return lambda _: client


@pytest.fixture(scope="module")
def compute():
    return load(str(ROOT / "infra/templates/compute.yaml"))["Resources"]


def test_the_page_has_thirty_endings():
    """Each of them once, and both answers in each column."""
    cases = rows()
    assert len(set(cases)) == len(cases) >= 30
    assert {case.batch for case in cases} == {"retry", "end"}
    assert {case.last for case in cases} == {"again", "–"}
    assert {case.mail for case in cases} == {"–", "yes"}


@pytest.mark.parametrize("case", rows(), ids=Case.name)
def test_an_ending(case, compute, events):
    """Batch's rules, the event rules (LocalStack evaluates them), the function, and the words."""
    rules = [
        {name[0].lower() + name[1:]: str(value) for name, value in rule.items()}
        for rule in compute["Job"]["Properties"]["RetryStrategy"]["EvaluateOnExit"]
    ]
    assert len(rules) <= 5, "a limit of AWS Batch"
    ending = batch.Ending(case.ending.code, case.ending.status, case.ending.reason)
    assert batch.retries(rules, ending) is (case.batch == "retry")

    event = state_change(container=case.container, statusReason=case.ending.status)
    called = rule_matches(events, compute["Resubmission"], event)
    assert called is (case.last == "again")
    assert rule_matches(events, compute["JobsEnded"], event) is (case.mail == "yes")
    assert called is (case.mail == "–"), "either the function or a mail"

    job = {"container": case.container, "statusReason": case.ending.status}
    why_not = resubmit._skip(job, VARIABLES)
    assert (why_not is None) is called, why_not

    found = {"container": case.container, "statusReason": case.ending.status, "stoppedAt": 1}
    shown = _attempt(1, "job", found).explanation
    assert shown.partition(" (" + (case.ending.reason or case.ending.status))[0] == case.shown


@pytest.mark.parametrize(
    ("ending", "shown"),
    [
        (Ending(0, status=batch.ORDINARY), ""),
        (Ending(0), ""),
        (Ending(None), ""),
        (Ending(None, status=batch.ORDINARY), batch.ORDINARY),
        (Ending(None, "Some new reason", "of AWS"), "Some new reason; of AWS"),
        (
            Ending(None, status="MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - too large"),
            "no machine of the queue fits the job: request less "
            "(MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - too large)",
        ),
        (
            Ending(137, "OutOfMemoryError: Container killed", batch.ORDINARY),
            "out of memory: submit with a larger --memory (OutOfMemoryError: Container killed)",
        ),
    ],
)
def test_other_endings(ending, shown):
    """A good end needs no words, AWS' own text is shown with ours, and an unknown one as it is."""
    assert explain(ending) == shown


def test_the_tables_of_status():
    """A person reads words for the job and for each attempt; AWS' text for what AWS has decided."""
    described = {
        "jobId": "2c1e", "jobName": "train", "status": "FAILED", "jobQueue": "queue",
        "statusReason": batch.ORDINARY,
        "attempts": [
            {"container": {}, "statusReason": batch.HOST_LOST, "startedAt": 1, "stoppedAt": 2},
            {"container": {"exitCode": 137, "reason": "OutOfMemoryError: killed"}, "stoppedAt": 3,
             "statusReason": batch.ORDINARY, "startedAt": 2},
        ],
    }  # fmt: skip

    def shown(**changes):
        found = CostReport(_job(described | changes), {}, None, None, ())
        for table in job_table("train", found, None, "", datetime.fromtimestamp(9, UTC)):
            rows = zip(*map(cells, table.columns), strict=True)
            yield from ([cell.strip() for cell in row] for row in rows)

    rows = list(shown())
    memory = "out of memory: submit with a larger --memory (OutOfMemoryError: killed)"
    assert ["state", f"FAILED  {memory}"] in rows
    gone = f"the machine was taken back (Spot), or lost ({batch.HOST_LOST})"
    assert [row[-1] for row in rows if row[0] in "12"] == [gone, memory]
    assert ["state", "FAILED  keepfit cancel"] in list(shown(statusReason="keepfit cancel"))
    assert ["state", "SUCCEEDED"] in list(shown(status="SUCCEEDED", statusReason=""))


def cells(column):
    """Return the texts of a table's column."""
    return list(map(str, column.cells))
