"""Scripts are compared by arguments and digest before the claim, and recorded in HEAD."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.format.head import COMPLETED, Head, ScriptRecord
from keepfit.callbacks.engine.preemption import PreemptionState
from keepfit.callbacks.engine.run import Run
from keepfit.callbacks.errors import Refused
from keepfit.callbacks.identity import scripts
from keepfit.callbacks.identity.scripts import Verdict, compare_scripts
from keepfit.callbacks.launch import process
from keepfit.callbacks.launch.process import Launch
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.settings import Settings
from keepfit.callbacks.storage.local import LocalStore
from tests.checkpoint.samples import RUN
from tests.engine.fits import AnyFit

ONE, TWO = "1" * 64, "2" * 64
BEFORE = ScriptRecord(arguments=("--lr", "0.1"), digest=ONE)
EDITED = ScriptRecord(arguments=("--lr", "0.1"), digest=TWO)
OTHER = ScriptRecord(arguments=("--lr", "0.001"), digest=ONE)
BOTH = ScriptRecord(arguments=("--lr", "0.001"), digest=TWO)
UNREADABLE = ScriptRecord(arguments=("--lr", "0.1"))
ANY = [
    {"finished": finished, "resume": resume}
    for finished in (False, True)
    for resume in (False, True)
]


@pytest.mark.parametrize("state", ANY)
@pytest.mark.parametrize("now", [BEFORE, UNREADABLE, None])
def test_the_same_script(now, state):
    """It continues the run, as does a process without a script; nothing is said."""
    assert compare_scripts(BEFORE, now, **state) == scripts.ScriptComparison(Verdict.ACCEPT)
    assert compare_scripts(None, now, **state) == scripts.ScriptComparison(Verdict.ACCEPT)
    assert compare_scripts(UNREADABLE, BEFORE, **state).verdict is Verdict.ACCEPT


@pytest.mark.parametrize("now", [OTHER, BOTH])
@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("wants_more", [False, True])
def test_other_arguments(now, finished, wants_more):
    """They are another training, unless --resume accepts them; both lists are shown."""
    found = compare_scripts(BEFORE, now, finished=finished, resume=False, wants_more=wants_more)
    assert found.verdict is Verdict.REFUSE
    assert found.reason == "the arguments differ: [--lr 0.1] in the run, [--lr 0.001] now"
    accepted = compare_scripts(BEFORE, now, finished=finished, resume=True)
    assert (accepted.verdict, accepted.reason) == (Verdict.ACCEPT, found.reason)


@pytest.mark.parametrize(
    ("finished", "resume", "wants_more", "verdict"),
    [
        (False, False, False, Verdict.WARN),
        (False, True, False, Verdict.WARN),
        (True, False, False, Verdict.REFUSE),
        (True, False, True, Verdict.WARN),
        (True, True, False, Verdict.ACCEPT),
        (True, True, True, Verdict.ACCEPT),
    ],
)
def test_a_changed_script(finished, resume, wants_more, verdict):
    """It may continue what is under way, but never has the result of the one before."""
    found = compare_scripts(BEFORE, EDITED, finished=finished, resume=resume, wants_more=wants_more)
    assert found.verdict is verdict
    assert "the script has changed" in found.reason


DIFFERING = [
    (["--lr", "0.1", "-v"], ["--lr", "0.2", "-v"], "[--lr 0.1] in the run, [--lr 0.2] now"),
    (["a"], [], "[a] in the run, none now"),
    ([], ["--fast"], "none in the run, [--fast] now"),
    (["--lr=1", "x y"], ["--lr=2", "x z"], "[--lr=1 'x y'] in the run, [--lr=2 'x z'] now"),
    (["--lr", "1", "--n", "2"], ["--n", "2"], "[--lr 1] in the run, none now"),
    (["--a", "1", "--b"], ["--a", "1", "2", "--b"], "none in the run, [2] now"),
]


@pytest.mark.parametrize(("before", "now", "shown"), DIFFERING)
def test_only_the_difference_is_shown(before, now, shown):
    """With the option that a value belongs to, as a shell takes it."""
    records = [ScriptRecord(arguments=tuple(arguments)) for arguments in (before, now)]
    assert compare_scripts(*records, finished=False, resume=False).reason.endswith(shown)


def test_a_long_difference_is_one_line_of_limited_length():
    """The line says how much is not shown."""
    now = ScriptRecord(arguments=tuple(f"--option-{i}\n" for i in range(200)))
    reason = compare_scripts(ScriptRecord(), now, finished=False, resume=False).reason
    assert "(200 arguments, " in reason
    assert len(reason) < 500


HEAD = Head(run=RUN, attempt=5, writer="w", swaps=1)


def checkpoint(attempt: int) -> str:
    return f"{RUN}/checkpoints/0000000003-{attempt:04d}-0000.json"


@pytest.mark.parametrize(
    ("baseline", "checkpoints", "finished"),
    [
        ({}, (checkpoint(3),), False),
        ({COMPLETED: 3}, (checkpoint(3), checkpoint(2)), True),
        ({COMPLETED: 4}, (checkpoint(3),), True),
        ({COMPLETED: 3}, (checkpoint(4), checkpoint(3)), False),
        ({COMPLETED: 3}, (), True),
    ],
)
def test_a_run_is_finished_until_it_is_trained_on(baseline, checkpoints, finished):
    """An attempt that has only looked at the result does not make it unfinished."""
    head = HEAD.model_copy(update={"baseline": baseline, "checkpoints": checkpoints})
    assert scripts.is_finished(head) is finished


@pytest.mark.parametrize(
    ("script", "checkpoints", "completed"),
    [
        (BEFORE, (checkpoint(5),), True),
        (BEFORE, (checkpoint(4), checkpoint(5)), False),
        (BEFORE, (), False),
        (None, (checkpoint(5),), False),
    ],
)
def test_what_is_recorded_at_the_end(script, checkpoints, completed):
    """A run is completed if its last checkpoint is the end of a fit, and it has a script."""
    update = {"script": script, "checkpoints": checkpoints, "finished": {0: checkpoint(5)}}
    values = scripts.values_at_end(HEAD.model_copy(update=update))
    assert values == ({COMPLETED: 5} if completed else {})


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """Return a function that begins a fit in a process with the given arguments."""

    def begin(*arguments: str, script: bool = True, **settings: bool) -> tuple[Head, list]:
        name = Path("train.py") if script else None
        launch = Launch("train", script=name, arguments=arguments, digest=ONE if script else None)
        monkeypatch.setattr(process, "_current", launch)
        resolved = Settings.resolve(store=f"file://{tmp_path}", run=RUN, **settings)
        run = Run(resolved, LocalStore(tmp_path), PreemptionState())
        with capture_logs() as logs:
            try:
                run.begin_fit(AnyFit())
            finally:
                run.close()
        return run.owned.attempt.head, logs

    return begin


def test_the_claim_records_the_script(begin):
    """The swap of the claim does, so it costs no request; --resume records what it accepts."""
    head, _ = begin("--lr", "0.1")
    assert (head.attempt, head.swaps) == (1, 0)
    assert head.script == BEFORE
    with pytest.raises(Refused):
        begin("--lr", "0.001")
    head, logs = begin("--lr", "0.001", resume=True)
    assert (head.attempt, head.script) == (2, OTHER)
    assert [log["log_level"] for log in logs if log["event"] == events.SCRIPT_CHANGED] == ["info"]
    head, logs = begin("--lr", "0.001")
    assert head.attempt == 3
    assert not [log for log in logs if log["event"] == events.SCRIPT_CHANGED]


def test_a_process_without_a_script_compares_nothing(begin):
    """What HEAD records stays."""
    begin("--lr", "0.1")
    head, _ = begin(script=False)
    assert (head.attempt, head.script) == (2, BEFORE)


def test_a_run_without_a_record_is_accepted(begin):
    """A store of keepfit 0.1 has none: one line says so, and the claim records the script."""
    head, _ = begin(script=False)
    assert head.script is None
    head, logs = begin("--lr", "0.1")
    assert head.script == BEFORE
    (entry,) = [log for log in logs if log["event"] == events.SCRIPT_UNRECORDED]
    assert entry["log_level"] == "info"
    _, logs = begin("--lr", "0.1")
    assert not [log for log in logs if log["event"] == events.SCRIPT_UNRECORDED]


def test_fresh_with_other_arguments_begins_anew(begin):
    """--fresh continues what the same command has begun; another command is not started again."""
    begin("--lr", "0.1", fresh=True)
    _, logs = begin("--lr", "0.1", fresh=True)
    assert logs[0]["event"] == events.FRESH_CONTINUED
    head, logs = begin("--lr", "0.001", fresh=True)
    assert logs[0]["event"] == events.STARTED_AFRESH
    assert head.script == OTHER
