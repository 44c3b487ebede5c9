"""Generated changes of journals, with right digests, against everything that reads journals.

A journal may be refused, which a note says; it leads to no other exception, and what is printed has
no control characters.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, Phase, given, settings
from rich.console import Console
from typer.testing import CliRunner

from keepfit.callbacks.checkpoint.format.keys import journal_key
from keepfit.callbacks.checkpoint.read.inspection import Summary
from keepfit.callbacks.journal.document import Journal, Machine
from keepfit.callbacks.journal.goodput_line import describe
from keepfit.callbacks.journal.read import RunJournals
from keepfit.callbacks.storage.local import LocalStore
from keepfit.job.cli import app
from keepfit.job.commands import tables
from keepfit.job.reports.data import read_report, report_of
from keepfit.job.reports.overview import last_record, read_overview
from keepfit.job.reports.scalars import write_scalars
from keepfit.job.reports.tables import report_document, report_tables
from tests.checkpoint.samples import MEMORY, RUN, document_at, snapshot, take_over, write_document
from tests.forged.mutations import MUTATIONS, Mutation
from tests.journal.factory import killed_and_resumed, write
from tests.journal.generated import any_journals

EXAMPLES = settings(
    max_examples=80,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
    database=None,
)

COMMANDS_ONCE_IN = 20
"""One of so many journals is also read by the commands, which takes ten times as long."""

MACHINE = Machine(
    host="host", instance_type="g5.xlarge", zone="a", hourly_price=1.0, on_demand_price=2.0
)


def check(store: LocalStore, folder: Path) -> None:
    """Read and print what `report` and `status` do, without the commands."""
    report = read_report(store, RUN)
    known = {one.attempt for one in report.journals} | report.unreadable.keys()
    assert known | set(report.missing) == {1, 2, 3}
    assert "\n" not in describe(report.goodput)
    json.loads(tables.as_json(report_document(report)), parse_constant=_no_constant)
    if report.journals:
        write_scalars(report, folder)
    (listed,) = read_overview(store).runs
    assert listed.run == RUN


@settings(EXAMPLES, max_examples=30)
@given(any_journals())
def test_any_valid_journals_are_printed(journals: list[Journal]) -> None:
    """However senseless their times and texts are."""
    summary = Summary(RUN, "resumable", attempts=9)
    report = report_of("file://runs", summary, RunJournals(tuple(journals)))
    console = Console(file=io.StringIO(), width=1000, markup=False)
    for table in report_tables(report):
        console.print(table)
    printed = console.file.getvalue()
    assert "\x1b" not in printed
    assert "two\nlines" not in printed
    json.loads(tables.as_json(report_document(report)), parse_constant=_no_constant)
    with TemporaryDirectory(dir=MEMORY) as folder:
        write_scalars(report, Path(folder))
    assert last_record(journals) is None or journals


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def run_commands(store: LocalStore) -> None:
    """Run the commands themselves."""
    for command in (("report", RUN), ("report", RUN, "--json"), ("status",), ("status", "--json")):
        ended = CliRunner().invoke(app, [*command, "--store", store.uri])
        assert not ended.exception, ended.exception
        assert ended.output.replace("\n", "").isprintable()


def test_any_journal_is_read_or_named() -> None:
    """No journal of a hostile store makes a command fail."""
    with TemporaryDirectory(dir=MEMORY) as name:
        store = LocalStore(Path(name, "runs"))
        for _ in range(3):
            attempt = take_over(store)
        attempt.commit(snapshot(300))
        journals = [one.model_copy(update={"machine": MACHINE}) for one in killed_and_resumed()]
        write(store, *journals)
        number = 0

        @EXAMPLES
        @given(MUTATIONS)
        def all_read(changes: list[Mutation]) -> None:
            nonlocal number
            number += 1
            path = Path(name, "runs", journal_key(RUN, number % 3 + 1))
            original = path.read_bytes()
            document = document_at(path)
            for change in changes:
                change.apply(document)
            write_document(path, document)
            try:
                check(store, Path(name, "board"))
                if not number % COMMANDS_ONCE_IN:
                    run_commands(store)
            finally:
                path.write_bytes(original)

        all_read()
        assert {path.name for path in Path(name).iterdir()} <= {"runs", "board"}
