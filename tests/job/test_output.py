"""The output of the commands: versions, completion, tables in a pipe and on a terminal."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from rich.table import Table
from typer.testing import CliRunner

from keepfit.callbacks.checkpoint.read.inspection import ObjectCheck
from keepfit.callbacks.engine.preemption import PreemptionState
from keepfit.callbacks.logs.display import Display
from keepfit.callbacks.logs.lines import lines_for_users
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.job import cli
from keepfit.job.commands import tables
from keepfit.job.notices.imds import InstanceMetadata
from keepfit.job.notices.watcher import NoticeWatcher
from tests import terminal

LONG = "runs/" + "x" * 1500


def completed(words, store):
    """Return what bash would be told to complete."""
    ended = CliRunner().invoke(
        cli.app,
        prog_name="keepfit",
        env={
            "_KEEPFIT_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(words),
            "COMP_CWORD": str(len(words) - 1),
            "KEEPFIT_STORE": store,
        },
    )
    assert ended.exit_code == 0, ended.exception
    return ended.stdout.split()


@pytest.fixture
def store(tmp_path):
    for name in ("cats", "cows", "dogs", ".hidden"):
        (tmp_path / name).mkdir()
    return f"file://{tmp_path}"


def test_version():
    """It names the versions without importing what they belong to, so it is there at once."""
    code = "import sys; from keepfit.job.cli import main\ntry: main()\nfinally: print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", code, "--version"], capture_output=True, text=True, check=True
    )
    versions, modules = ended.stdout.splitlines()
    number = r"\d+(\.\d+)+\S*"
    assert re.fullmatch(
        rf"keepfit {number}, Keras {number}, TensorFlow {number}, Python {number}", versions
    )
    assert "typer" in modules.split()
    assert not {"keras", "tensorflow", "boto3"} & set(modules.split())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["keepfit", "show", "c"], ["cats", "cows"]),
        (["keepfit", "export", ""], ["cats", "cows", "dogs"]),
        (["keepfit", "prune", "d"], ["dogs"]),
        (["keepfit", "run", "--run", "co"], ["cows"]),
        (["keepfit", "pl"], ["plan"]),
    ],
)
def test_completion(words, expected, store):
    """Commands, and the names of runs in a directory."""
    assert completed(words, store) == expected


@pytest.mark.parametrize(
    "elsewhere", ["s3://bucket/runs", "file:///none/at/all", "file:///dev/null", "nonsense"]
)
def test_no_completion(elsewhere, monkeypatch):
    """A store in S3 is not asked; one that can't be read has no names, and no error is shown."""
    monkeypatch.setitem(sys.modules, "boto3", None)  # an import of it fails
    assert completed(["keepfit", "show", ""], elsewhere) == []


def test_completion_of_another_store(store):
    """--store counts where it is given before."""
    assert completed(["keepfit", "show", "--store", store, "d"], "s3://bucket") == ["dogs"]


def test_a_table_in_a_pipe(capsys, monkeypatch):
    """A row is a line with all of its content, without spaces at its end and control characters."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    tables.show(tables.verification_table([ObjectCheck(LONG, 7), ObjectCheck("b", 8, "[bold]")]))
    row = tables.text_table("run", "a")
    row.add_row("", LONG)
    tables.show(row)
    header, first, second, *own = capsys.readouterr().out.split("\n")
    assert header.split() == ["object", "size"]
    assert first == f"{LONG}  7 bytes  ok"
    assert second.split() == ["b", "8", "bytes", "[bold]"]
    assert own == ["run  a", f"     {LONG}", ""]


def test_a_table_on_a_terminal(monkeypatch):
    """A cell that is too wide is folded, and nothing of it is lost."""
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with terminal.opened() as (user, file):
        monkeypatch.setattr("sys.stdout", file)
        rows: Table = tables.text_table("run", "reason")
        rows.add_row("r", "abcdefghij" * 20)
        tables.show(rows)
        monkeypatch.undo()
    header, *lines = user.lines()
    assert header.split() == ["run", "reason"]
    assert len(lines) == 3
    assert "".join(line[5:] for line in lines) == "abcdefghij" * 20
    assert b"\x1b[1m" in user.written


@pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH])
def test_no_metadata_service(number, monkeypatch):
    """Off EC2, it is one line, which fits in 80 columns."""

    def refuse(*_args, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("socket.socket.connect", refuse)
    with capture_logs() as logs:
        watcher = NoticeWatcher(InstanceMetadata.from_environment({}), PreemptionState())
        watcher.poll()
        watcher.poll()
    (entry,) = logs
    assert entry["machine"] == "http://169.254.169.254"
    event = {**entry, "level": entry["log_level"]}
    del event["log_level"]
    line = lines_for_users(event, Display(columns=80), datetime(2026, 1, 1, tzinfo=UTC))
    assert line == f"00:00:00 keepfit: no notices: IMDS does not answer: {os.strerror(number)}"
