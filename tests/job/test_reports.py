"""`keepfit report`, and `keepfit status` of a store."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from keepfit.callbacks.checkpoint.format.keys import head_key, journal_key
from keepfit.callbacks.journal.terms import Reason
from keepfit.callbacks.storage import open_store
from tests.checkpoint.samples import RUN, snapshot, take_over
from tests.job.conftest import keepfit, refused
from tests.journal.factory import journal, killed_and_resumed, moment, write


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A directory store that the commands find by KEEPFIT_STORE."""
    uri = f"file://{tmp_path}/runs"
    monkeypatch.setenv("KEEPFIT_STORE", uri)
    return open_store(uri)


def train(store, run=RUN, *steps, attempts=1):
    """Commit checkpoints of a run; the last of `attempts` has written them."""
    for _ in range(attempts):
        attempt = take_over(store, run=run)
    for step in steps:
        attempt.commit(snapshot(step))


def parsed(*args):
    """Run the command with --json. Return the parsed output."""
    return json.loads(keepfit(*args, "--json").stdout)


def rows(output):
    """Return the rows of a printed table by their first cell."""
    lines = (re.split(r"  +", line.strip()) for line in output.splitlines())
    return {cells[0]: cells[1:] for cells in lines}


def test_report(store):
    """Goodput with its causes, and a row for each attempt."""
    train(store, RUN, 7, attempts=3)
    write(store, *killed_and_resumed())
    printed = keepfit("report", RUN).stdout
    found = rows(printed)
    assert found["goodput"][:2] == ["30.0", "38.7"]
    assert found["trained again"] == ["1.0", "1.3"]
    assert found["total"] == ["77.5", "100.0"]
    assert "38.7 %: 35.9 % waiting, 11.6 % start-up" in printed
    assert found["1"] == [
        "2026-11-28 12:00:00", "0:00:20", "100", "10 +", "4", "under $0.01",
        "killed: killed by SIGKILL",
    ]  # fmt: skip
    assert found["3"][-1] == "finished (0)"
    assert "notes" not in printed


def test_report_as_json(store):
    """All facts, for programs; NaN in metrics is a text, as JSON has none."""
    train(store, RUN, 7, 9, attempts=3)
    first, *others = killed_and_resumed()
    (epoch, *_) = first.epochs
    first = first.model_copy(
        update={"epochs": (epoch.model_copy(update={"metrics": {"loss": float("nan")}}),)}
    )
    write(store, first, *others)
    found = parsed("report", RUN)
    assert found["run"]["state"] == "resumable"
    assert sum(found["goodput"]["parts"].values()) == pytest.approx(77.5)
    assert sum(found["goodput"]["shares"].values()) == pytest.approx(1)
    assert [a["kept_step"] for a in found["goodput"]["attempts"]] == [100, 180, 300]
    assert found["goodput"]["costs"]["unpriced"] == 0
    assert [one["attempt"] for one in found["journals"]] == [1, 2, 3]
    assert found["journals"][0]["epochs"][0]["metrics"] == {"loss": "NaN"}
    assert [c["step"] for c in found["checkpoints"]] == [9, 7]
    assert found["versions"]["keras"] == "3.15.0"
    assert (found["missing"], found["unreadable"], found["notes"]) == ([], {}, [])


def test_a_run_of_a_keepfit_without_journals(store):
    """It has a report, which says what it lacks."""
    train(store, RUN, 7, attempts=3)
    printed = keepfit("report", RUN).stdout
    assert "attempts 1 to 3 have no journal: they were run by a keepfit without it" in printed
    assert "unknown: no journal can be read" in printed
    assert parsed("report", RUN)["missing"] == [1, 2, 3]


def test_damaged_journals(store, tmp_path):
    """Each is named with the reason; the others count."""
    train(store, RUN, 7, attempts=5)
    write(store, journal(2, steps=100, reason=Reason.PREEMPTED))
    store.put(journal_key(RUN, 1), [b"{"])
    store.put(journal_key(RUN, 3), [journal(4).to_bytes()])
    os.mkfifo(tmp_path / "runs" / journal_key(RUN, 4))
    found = parsed("report", RUN)
    assert (found["missing"], sorted(found["unreadable"])) == ([5], ["1", "3", "4"])
    assert "it is the journal of attempt 4" in found["unreadable"]["3"]
    printed = keepfit("report", RUN).stdout
    assert "attempt 5 has no journal: it was run" in printed
    assert "the journal of attempt 1 can't be read" in printed


def test_costs_that_are_not_complete(store):
    """Notes say for how many attempts the cost is not known."""
    train(store, RUN, 7, attempts=2)
    write(store, journal(kill=True, price=1.0), journal(2, started=60, resumed=100, steps=200))
    notes = parsed("report", RUN)["notes"]
    assert "the cost is without 1 attempt whose price is not known" in notes
    assert any("after the last record of 1 attempt whose end" in note for note in notes)


def test_more_journals_than_are_read(store, monkeypatch):
    """The newest are read, as far as their size allows, and a note says so."""
    train(store, RUN, 7, attempts=3)
    write(store, *killed_and_resumed())
    size = max(len(one.to_bytes()) for one in killed_and_resumed())
    monkeypatch.setattr("keepfit.callbacks.journal.read.MAX_TOTAL_BYTES", 2 * size)
    found = parsed("report", RUN)
    assert [one["attempt"] for one in found["journals"]] == [2, 3]
    assert (found["left_out"], found["missing"]) == (1, [])
    assert "older journals are not read, since there are too many: 1" in found["notes"]


def test_report_of_a_damaged_head(store, tmp_path):
    """The journals are shown, since they do not need it."""
    train(store, RUN, 7)
    write(store, journal())
    (tmp_path / "runs" / head_key(RUN)).write_text("{")
    found = parsed("report", RUN)
    assert found["run"]["state"] == "damaged"
    assert found["goodput"]["parts"]["productive"] == pytest.approx(10)


def test_no_such_run(store):
    """One line, and exit code 2 as for `show`."""
    assert "there is no run 'nothing'" in refused("report", "nothing", code=2)


def test_tensorboard(store, tmp_path):
    """TensorBoard reads one point an attempt: shares, at its last step, at the time of its end."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(store, RUN, 7, attempts=3)
    write(store, *killed_and_resumed())
    folder = tmp_path / "board/goodput"
    for _ in range(2):  # the second file replaces the first
        keepfit("report", RUN, "--tensorboard", folder)
    assert [path.name for path in folder.iterdir()] == ["events.out.tfevents.0.run.keepfit"]
    board = EventAccumulator(str(folder)).Reload()
    assert set(board.Tags()["scalars"]) == {
        f"keepfit/{name}"
        for name in (
            "goodput", "validation", "startup", "restore", "saves", "other", "trained_again",
            "unknown", "waiting",
        )
    }  # fmt: skip
    shares = board.Scalars("keepfit/goodput")
    assert [point.step for point in shares] == [110, 180, 300]
    assert shares[0].value == pytest.approx(10 / 20)
    assert shares[0].wall_time == moment(20).timestamp()
    lost = board.Scalars("keepfit/trained_again")
    assert [round(point.value, 6) for point in lost] == [0.05, 0, 0]


def test_tensorflow_is_not_imported(store, tmp_path):
    """The event file needs TensorBoard's package only."""
    train(store, RUN, 7)
    write(store, journal())
    program = (
        "import sys\nfrom keepfit.job.cli import app\n"
        "app(sys.argv[1:], standalone_mode=False)\nassert 'tensorflow' not in sys.modules"
    )
    command = ["report", RUN, "--tensorboard", str(tmp_path / "board")]
    subprocess.run([sys.executable, "-c", program, *command], check=True, capture_output=True)


def test_tensorboard_without_journals_or_folder(store, tmp_path):
    """One line says why, and there is no file."""
    train(store, RUN, 7)
    board = tmp_path / "board"
    assert "has no journal" in refused("report", RUN, "--tensorboard", board, code=2)
    assert not board.exists()
    write(store, journal())
    board.write_text("no folder")
    assert "can't be written" in refused("report", RUN, "--tensorboard", board, code=2)


def test_status_of_a_store(store):
    """All runs, the newest first by what was last seen of them; AWS is not asked."""
    train(store, "old", 7)
    train(store, "new", 9)
    write(store, journal(run="new", steps=100))
    train(store, "begun")
    future = {"process_started": "2999-01-01T00:00:00Z"}
    one = journal(run="begun", steps=0)
    write(store, type(one).model_validate(one.model_dump() | future))
    ended = keepfit("status")
    assert ended.stderr == ""
    assert ended.stdout.splitlines()[0].split() == [
        "run", "state", "step", "attempts", "goodput", "last", "seen",
    ]  # fmt: skip
    assert [line.split()[0] for line in ended.stdout.splitlines()[1:]] == ["begun", "new", "old"]
    assert rows(ended.stdout)["new"][:4] == ["resumable", "9", "1", "76.9 %"]
    listed = {run["run"]: run for run in parsed("status")["runs"]}
    assert listed["new"]["goodput"]["parts"]["productive"] == pytest.approx(10)
    assert listed["old"]["goodput"] is None
    assert listed["begun"]["last_seen"].startswith("2999-01-01T00:00:03")
    elsewhere = parsed("status", "--store", f"{store.uri}/elsewhere")
    assert elsewhere["runs"] == []


def _damage_head(folder: Path) -> None:
    (folder / "HEAD.json").write_text("{")


def _journals_are_a_file(folder: Path) -> None:
    (folder / "attempts").write_text("no folder")


def _journal_is_a_folder(folder: Path) -> None:
    (folder / "attempts/0001.json").mkdir(parents=True)


def _journal_is_large(folder: Path) -> None:
    (folder / "attempts").mkdir()
    (folder / "attempts/0001.json").touch()
    os.truncate(folder / "attempts/0001.json", 20 << 30)


@pytest.mark.parametrize(
    "damage", [_damage_head, _journals_are_a_file, _journal_is_a_folder, _journal_is_large]
)
def test_a_damaged_run_blinds_no_list(store, tmp_path, damage):
    """Every other run is listed; `report` and `status` of the damaged one end with a line."""
    train(store, "sound", 9)
    write(store, journal(run="sound"))
    train(store, RUN, 7)
    damage(tmp_path / "runs" / RUN)
    found = rows(keepfit("status").stdout)
    assert found["sound"][:4] == ["resumable", "9", "1", "76.9 %"]
    assert RUN in found
    keepfit("report", RUN)
    assert json.loads(keepfit("status", RUN, "--json").stdout)["checkpoint"]["run"] == RUN
    assert parsed("report", RUN)["notes"] or damage is _damage_head


def test_the_newest_runs_are_listed(store, monkeypatch):
    """A long list is cut, which a line says, and the journals of the others are not read."""
    monkeypatch.setattr("keepfit.job.reports.overview.NEWEST", 2)
    for number in range(4):
        train(store, f"run{number}", 7)
    ended = keepfit("status")
    assert [line.split()[0] for line in ended.stdout.splitlines()[1:]] == ["run3", "run2"]
    assert "runs left out" in ended.stderr
    assert "--all" in ended.stderr
    assert parsed("status")["left_out"] == 2
    assert len(parsed("status", "--all")["runs"]) == 4


def test_status_of_a_run_without_aws(store, monkeypatch):
    """What the store knows, with a note; without the run, one more line and exit code 2."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    train(store, RUN, 7)
    write(store, journal())
    ended = keepfit("status", RUN)
    assert "AWS was not asked" in ended.stdout
    assert "no region is set" in ended.stderr
    assert "step 7" in ended.stdout
    assert "76.9 %: 23.1 % start-up" in ended.stdout
    found = parsed("status", RUN)
    assert found["checkpoint"]["step"] == 7
    assert "no region is set" in found["note"]
    assert "there is no run 'nothing'" in keepfit("status", "nothing", code=2).stderr
    assert "no region is set" in refused("status", "--queue", "q", code=78)
