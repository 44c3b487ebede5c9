"""A run is told apart from others: by its name, its arguments and its script."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.cases import OFTEN, PLAIN, finish, kill_after_save, stored, write
from tests.e2e.process import document, result, run

RATE = """
RATE = float(sys.argv[sys.argv.index("--lr") + 1])
sys.argv[:] = ["other.py"]
model = build()
model.optimizer.learning_rate = RATE
result(model, fit(model), rate=RATE)
if os.environ.get("FAIL"):
    sys.exit(3)
"""
MORE = "\nprint('edited')\n"


def head(folder: Path, name: str = "train") -> dict:
    return document(folder / f"runs/{name}/HEAD.json")


def edit(folder: Path) -> None:
    """Change the script without changing what it trains."""
    with (folder / "train.py").open("a") as script:
        script.write(MORE)


def test_other_arguments_are_another_training(tmp_path):
    """The line has the difference and the ways out, and the refused process takes nothing over."""
    write(tmp_path, RATE)
    assert run(tmp_path, *OFTEN, "train.py", "--lr", "0.1").code == 0
    first, before = result(tmp_path), stored(tmp_path)
    refused = run(tmp_path, *OFTEN, "train.py", "--lr", "0.001")
    assert refused.code == 78
    line = refused.one("refused")
    assert line["reason"] == "the arguments differ: [--lr 0.1] in the run, [--lr 0.001] now"
    assert all(way in line["fix"] for way in ("--run NAME", "--fresh", "--resume"))
    assert "Traceback" not in refused.err
    assert stored(tmp_path) == before
    named = run(tmp_path, *OFTEN, "--run", "named", "train.py", "--lr", "0.001")
    assert named.code == 0
    assert result(tmp_path)["variables"] != first["variables"]
    fresh = run(tmp_path, *OFTEN, "--fresh", "train.py", "--lr", "0.001")
    assert fresh.one("started_afresh")
    assert head(tmp_path)["script"]["arguments"] == ["--lr", "0.001"]
    resumed = run(tmp_path, *OFTEN, "--resume", "train.py", "--lr", "0.001", "--more")
    assert resumed.one("already_finished")
    assert head(tmp_path)["script"]["arguments"] == ["--lr", "0.001", "--more"]


def test_a_changed_script_does_not_have_the_result_of_the_one_before(tmp_path):
    """A finished run is of the script that has finished it; --resume accepts another."""
    write(tmp_path, PLAIN)
    finish(tmp_path)
    assert head(tmp_path)["origin"]["completed"] == 1
    again = run(tmp_path, *OFTEN, "train.py")
    assert (again.code, bool(again.named("already_finished"))) == (0, True)
    edit(tmp_path)
    refused = run(tmp_path, *OFTEN, "train.py")
    assert refused.code == 78
    assert "the script has changed since the run was finished" in refused.one("refused")["reason"]
    assert "edited" not in refused.out
    resumed = run(tmp_path, *OFTEN, "train.py", KEEPFIT_RESUME="1")
    assert resumed.code == 0
    assert resumed.one("script_changed")["level"] == "info"
    assert run(tmp_path, *OFTEN, "train.py").code == 0, "--resume records the script"


def test_a_script_that_changes_while_its_run_is_under_way(tmp_path, plain):
    """One warning, and the training goes on to the same end."""
    write(tmp_path, PLAIN)
    kill_after_save(tmp_path)
    edit(tmp_path)
    ended = run(tmp_path, *OFTEN, "train.py")
    assert ended.code == 0, ended.err
    assert ended.one("script_changed")["level"] == "warning"
    assert ended.one("resumed")
    assert result(tmp_path) == plain


def test_a_script_that_fails_is_not_completed(tmp_path):
    """Its fit is finished, but the script may be corrected and started again."""
    write(tmp_path, RATE)
    command = (*OFTEN, "train.py", "--lr", "0.1")
    assert run(tmp_path, *command, FAIL="1").code == 3
    assert "completed" not in head(tmp_path)["origin"]
    edit(tmp_path)
    again = run(tmp_path, *command)
    assert again.code == 0
    assert again.one("script_changed")["level"] == "warning"
    assert head(tmp_path)["origin"]["completed"] == 2


SWEEP = """
for rate in (0.1, 0.001):
    model = build()
    model.optimizer.learning_rate = rate
    result(model, fit(model, run=f"lr={rate}"))
"""


def test_two_runs_of_one_script(tmp_path):
    """Each has its own name and record, and both are completed by the script's end."""
    write(tmp_path, SWEEP)
    assert run(tmp_path, *OFTEN, "train.py").code == 0
    heads = [head(tmp_path, f"lr={rate}") for rate in (0.1, 0.001)]
    assert [found["origin"]["completed"] for found in heads] == [1, 1]
    assert heads[0]["script"] == heads[1]["script"]


def python(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run Python without keepfit's runner."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, *args]
    return subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True)


BARE = """
import sys
from keepfit.callbacks.checkpoint.format.fit_record import FitRecord
from keepfit.callbacks.checkpoint.format.state_schema import ANY_STATE
from keepfit.callbacks.checkpoint.format.position import Position
from keepfit.callbacks.checkpoint.snapshot import Snapshot
from keepfit.callbacks.engine import session
from keepfit.callbacks.settings import Settings
from keepfit.callbacks.identity.fits import match_fit

class AnyFit:
    is_known = True
    schema = ANY_STATE
    wait_until_known = lambda self, given_up: None
    record = lambda self, complete=True: FitRecord()
    match = lambda self, known: match_fit(self.record(), known)
    compare = lambda self, key, manifest, record: None
    wants_more = lambda self, manifest: False
    close = lambda self: None

run = session.current().run(Settings.resolve())
run.begin_fit(AnyFit())
run.saves.save_final(Snapshot(Position(step=3, finished=True), [], {}))
if "raise" in sys.argv:
    raise ValueError("an error of the script")
"""


@pytest.mark.parametrize(
    ("argument", "code", "completed"),
    [("whole", 0, True), ("raise", 1, False)],
)
def test_plain_python(tmp_path, argument, code, completed):
    """The end of the interpreter is the end of the script; an error is no completion."""
    (tmp_path / "train.py").write_text(BARE)
    assert python(tmp_path, "train.py", argument).returncode == code
    assert head(tmp_path)["script"]["arguments"] == [argument]
    assert head(tmp_path)["origin"] == ({"completed": 1} if completed else {})
    refused = python(tmp_path, "train.py", "other")
    assert refused.returncode == 78
    assert f"[{argument}] in the run, [other] now" in refused.stderr
    assert "KEEPFIT_RESUME=1" in refused.stderr


def test_a_process_without_a_name(tmp_path):
    """One line asks for a name; nothing is trained or stored."""
    code = (write(tmp_path, PLAIN) / "train.py").read_text()
    ended = python(tmp_path, "-c", code)
    assert ended.returncode == 78
    (line,) = (line for line in ended.stderr.splitlines() if "refused" in line)
    assert "Resumable(run='NAME')" in line
    assert "KEEPFIT_RUN=NAME" in line
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "runs").exists()
