"""`keepfit drill` as a command: what it refuses, how it ends, and what it prints."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from keepfit.job.cli import app
from keepfit.job.drill import report as reports
from keepfit.job.drill.attempts import run_process
from keepfit.job.drill.moments import Kind
from keepfit.job.drill.rehearsal import Report, Result, Row
from tests.drill.test_rehearsal import MadeUp, rehearse


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with scripts, which is the working directory; temporary folders are beside it."""
    folder = tmp_path / "project"
    folder.mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(folder)
    (folder / "train.py").write_text("raise ValueError('no data')\n")
    return folder


def drill(*args, code):
    """Run the command and assert its exit code. Return its standard error."""
    ended = CliRunner().invoke(app, ["drill", "--no-deterministic", *map(str, args)])
    assert ended.exit_code == code, ended.output
    assert not ended.exception or isinstance(ended.exception, SystemExit), ended.exception
    return ended.stderr


@pytest.mark.parametrize(
    ("args", "code", "reason"),
    [
        (["missing.py"], 2, "there is no script 'missing.py'"),
        (["--until", "5min", "train.py"], 2, "--until takes"),
        (["--until", "soon", "train.py"], 2, "--until takes"),
        (["--at", "lunch", "train.py"], 2, "lunch"),
        (["--link", "/etc", "train.py"], 78, "--link takes paths below the current folder"),
        (["../other.py"], 78, "is not below the current folder"),
    ],
)
def test_what_is_refused_at_once(args, code, reason, project):
    """Before anything is copied."""
    (project.parent / "other.py").touch()
    assert reason in drill(*args, code=code)
    assert list((project.parent / "tmp").iterdir()) == []


def test_a_script_that_fails_by_itself(project):
    """The last line of its traceback is the reason, and the log stays."""
    text = drill("train.py", code=78)
    assert "exit code 1: ValueError: no data; log: " in text
    log = text.rpartition("log: ")[2].strip()
    assert "ValueError: no data" in Path(log).read_text()


def test_a_script_without_fit(project):
    """It has come to its end twice, and nothing of it stays."""
    (project / "train.py").write_text("print('no training')\n")
    assert "calls no fit" in drill("train.py", code=78)
    assert list((project.parent / "tmp").iterdir()) == []
    assert [path.name for path in project.iterdir()] == ["train.py"]


WAITS = """
import os, signal, sys
child = os.fork()
if child:
    with open(sys.argv[1], "w") as pipe:
        pipe.write(f"{os.getpid()} {child}")
signal.pause()
"""


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.soak)]
)
def test_an_interrupted_drill_leaves_nothing(number, project):
    """No process of the script, and no folder."""
    (project / "train.py").write_text(WAITS)
    pipe = project.parent / "pipe"
    os.mkfifo(pipe)
    command = [Path(sys.executable).with_name("keepfit"), "drill", "--no-deterministic"]
    process = subprocess.Popen(
        [*command, "train.py", pipe],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # a background shell ignores it
    )
    try:
        pids = [int(pid) for pid in pipe.read_text().split()]
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    for pid in pids:
        assert ends(pid)
    assert list((project.parent / "tmp").iterdir()) == []


def ends(pid):
    """Return whether a process that was killed ends: the system takes a moment for it."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], 10)[0])
    finally:
        os.close(process)


def test_an_attempt_that_hangs_is_ended(tmp_path):
    """With all that it has started."""
    out = tmp_path / "out"
    script = "sleep 1000 & echo $!; wait"
    ended = run_process(
        ["sh", "-c", script], tmp_path, os.environ, out, tmp_path / "err", limit=0.5
    )
    assert ended.hung
    assert ends(int(out.read_text()))


def test_the_exit_code_of_an_attempt(tmp_path):
    """A signal is negative, as for subprocess."""
    for script, code in {"exit 75": 75, "kill -9 $$": -9}.items():
        ended = run_process(
            ["sh", "-c", script], tmp_path, os.environ, tmp_path / "o", tmp_path / "e", None
        )
        assert (ended.code, ended.hung) == (code, False)


def plain(text):
    return text


def test_the_report_of_a_drill_that_differs(tmp_path):
    """The table names the row; below it come what differs first, and why."""
    report = rehearse(MadeUp(tmp_path, wrong={Kind.NOTICE}))
    table = reports.table_of(report, plain)
    assert table.row_count == 2 + len(Kind)
    lines = reports.text_of(report, plain).splitlines()
    assert lines[0] == "differs: 1 of 8 interruptions"
    assert lines[1].startswith("first difference (Spot notice): fit 2, epoch 2, history: loss")
    assert lines[2].startswith("probable cause: state in the process")
    assert lines[3] == f"its files: {tmp_path / 'Spot-notice'}"


def test_the_document_of_a_drill_that_differs(tmp_path):
    """Programs get all rows and all differences; fits and epochs count from 1."""
    report = rehearse(MadeUp(tmp_path, wrong={Kind.VALIDATION}))
    document = json.loads(json.dumps(reports.document_of(report, plain)))
    assert document["identical"] is False
    assert document["reproducible"] is True
    assert document["until"] is None
    moments = {row["moment"]: row["result"] for row in document["moments"]}
    assert moments["in validation"] == "differs"
    assert moments["first batch"] == "identical"
    (found,) = document["differences"]
    assert found["what"] == "history"
    assert (found["fit"], found["epoch"], found["names"]) == (2, 2, ["loss"])


def test_what_a_terminal_would_obey_is_escaped():
    """And secrets are masked: texts come from the script."""
    row = Row("Spot notice", Result.FAILED, "fit 1", "\x1b[31m token=abc")
    report = Report((row,), True, "differs")
    text = reports.text_of(report, lambda text: text.replace("abc", "***"))
    assert "\\x1b[31m token=***" in text
    assert "\x1b" not in text
