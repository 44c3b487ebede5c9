"""The course of a drill, with a made-up script in the place of processes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from keepfit.job.drill.attempts import Ending, Run, Setting
from keepfit.job.drill.folders import Project
from keepfit.job.drill.instructions import Limit, Program
from keepfit.job.drill.moments import Course, Hook, Kind, Place
from keepfit.job.drill.rehearsal import CannotDrill, Rehearsal, Result
from tests.drill.samples import outcome, state
from tests.drill.test_moments import WHOLE, epochs

OTHER = outcome(state(0), state(1, history={"loss": ["3.0", "2.1"], "val_loss": ["3.5", "2.5"]}))


@dataclass
class MadeUp:
    """Runs of a script that differ after interruptions of some kinds.

    Attributes:
        wrong: kinds after which the result differs.
        failing: kinds after which no attempt comes to the end.
        unreached: kinds that a run with several interruptions passes.
        together: the result differs only after several interruptions.
        differs: "kept" if keepfit changes the script, "again" if each run differs.
    """

    base: Path
    course_found: Course = WHOLE
    wrong: set = field(default_factory=set)
    failing: set = field(default_factory=set)
    unreached: set = field(default_factory=set)
    together: bool = False
    differs: tuple = ()
    fails: tuple = ()
    names: list = field(default_factory=list)

    def __post_init__(self):
        self.setting = Setting(
            self.base, Project(self.base), Program("train.py"), {}, Limit(batches=3)
        )

    def run(self, name, begins, *, kept, moments=()):
        self.names.append(name)
        for attempt in range(len(moments) + 1):
            begins(attempt + 1)
        folder = self.base / name
        folder.mkdir()
        kinds = {moment.kind for moment in moments}
        if name in self.fails or kinds & self.failing:
            reason = "exit code 1: ValueError: no"
            return Run(folder, Ending.FAILED, 1, 1.0, code=1, reason=reason, log="err")
        several = len(moments) > 1
        reached = tuple(m for m in moments if not (several and m.kind in self.unreached))
        bad = kinds & self.wrong or (several and self.together) or name in self.differs
        return Run(folder, Ending.COMPLETE, 1, 1.0, reached, OTHER if bad else outcome())

    def course(self, run):
        return self.course_found


def rehearse(runs, kinds=tuple(Kind)):
    said = []
    report = Rehearsal(runs, lambda *step: said.append(step), kinds).rehearse()
    assert [done for _, done, _ in said] == list(range(len(said)))
    assert all(done < total for _, done, total in said)
    return report


def results(report):
    return {row.moment: row.result for row in report.rows[2:]}


def test_an_identical_script_needs_three_runs(tmp_path):
    """All interruptions are in one run, whose folder is deleted."""
    runs = MadeUp(tmp_path)
    report = rehearse(runs)
    assert report.identical
    assert report.conclusion == "identical: 8 of 8 interruptions"
    assert runs.names == ["plain", "kept", "interrupted"]
    assert results(report) == dict.fromkeys(Kind, Result.IDENTICAL)
    assert not (tmp_path / "interrupted").exists()


@pytest.mark.parametrize("kind", list(Kind))
def test_a_moment_after_which_the_result_differs(kind, tmp_path):
    """Each moment is tried alone, so only this row differs, and only its folder is kept."""
    runs = MadeUp(tmp_path, wrong={kind})
    report = rehearse(runs)
    assert not report.identical
    assert report.reproducible
    assert results(report) == {**dict.fromkeys(Kind, Result.IDENTICAL), kind: Result.DIFFERS}
    (row,) = [row for row in report.rows if row.result is Result.DIFFERS]
    assert row.detail == "fit 2, epoch 2, history: loss (2.0 became 2.1)"
    assert row.cause
    assert Path(row.folder).exists()
    assert not (tmp_path / ("notice" if kind is Kind.FIRST_BATCH else "first-batch")).exists()
    assert report.first[0].fit == 1


def test_a_moment_after_which_no_attempt_comes_through(tmp_path):
    """The row says why, and where the log is."""
    report = rehearse(MadeUp(tmp_path, failing={Kind.NOTICE}))
    row = report.rows[-1]
    assert (row.moment, row.result) == (Kind.NOTICE, Result.FAILED)
    assert row.detail == "exit code 1: ValueError: no; log: err"
    assert not report.identical


def test_a_result_that_differs_only_after_all_interruptions(tmp_path):
    """It has a row of its own: no single one is to blame."""
    report = rehearse(MadeUp(tmp_path, together=True))
    assert not report.identical
    assert report.rows[-1].moment == "all of these, one after the other"
    assert report.rows[-1].result is Result.DIFFERS


def test_a_moment_that_the_common_run_has_passed_is_tried_alone(tmp_path):
    """Its row is not taken from a run that was not interrupted there."""
    runs = MadeUp(tmp_path, unreached={Kind.DURING_SAVE})
    report = rehearse(runs)
    assert report.identical
    assert runs.names[3:] == ["during-a-save"]


def test_a_moment_that_no_run_has_reached(tmp_path):
    """It is neither identical nor different."""
    runs = MadeUp(tmp_path, unreached={Kind.DURING_SAVE})
    whole = runs.run
    runs.run = lambda *given, **named: _passing(whole(*given, **named))
    report = rehearse(runs)
    assert results(report)[Kind.DURING_SAVE] is Result.NOT_REACHED
    assert report.conclusion == "identical: 7 of 7 interruptions"


def _passing(run):
    """Return a run that has not been interrupted during a save."""
    return replace(run, reached=tuple(m for m in run.reached if m.kind is not Kind.DURING_SAVE))


def test_a_script_that_differs_in_each_run(tmp_path):
    """It is not interrupted at all."""
    runs = MadeUp(tmp_path, differs=("kept", "again"))
    report = rehearse(runs)
    assert not report.reproducible
    assert not report.identical
    assert report.conclusion.startswith("not reproducible")
    assert runs.names == ["plain", "kept", "again"]
    assert "a generator without a seed" in report.rows[0].cause


def test_a_script_that_differs_under_keepfit_only(tmp_path):
    """A third run tells this from a script that is not reproducible."""
    report = rehearse(MadeUp(tmp_path, differs=("kept",)))
    assert report.reproducible
    assert not report.identical
    assert report.conclusion == "differs under keepfit run without any interruption"


@pytest.mark.parametrize("name", ["plain", "kept"])
def test_a_script_that_fails_by_itself(name, tmp_path):
    """There is nothing to compare with."""
    with pytest.raises(CannotDrill, match="ValueError: no; log: err"):
        rehearse(MadeUp(tmp_path, fails=(name,)))


def test_a_script_without_fit(tmp_path):
    """There is nothing to interrupt."""
    with pytest.raises(CannotDrill, match="calls no fit"):
        rehearse(MadeUp(tmp_path, Course(())))


def test_kinds_that_the_script_does_not_have(tmp_path):
    """They have a row, which says why."""
    report = rehearse(MadeUp(tmp_path, Course((epochs(1, batches=2),), saves=1)))
    found = results(report)
    assert found[Kind.BETWEEN_FITS] is found[Kind.VALIDATION] is Result.ABSENT
    assert report.conclusion == "identical: 4 of 4 interruptions"


def test_kinds_that_were_asked_for(tmp_path):
    """No other row is made."""
    report = rehearse(MadeUp(tmp_path), (Kind.NOTICE,))
    assert results(report) == {Kind.NOTICE: Result.IDENTICAL}


def test_runs_end_where_the_first_one_has_ended(tmp_path):
    """The place is looked for once, by counting; then all runs end there."""
    until = Place(0, 2, Hook.BATCH_END, 3)
    runs = MadeUp(tmp_path, Course(WHOLE.fits, 5, until))
    report = rehearse(runs)
    assert runs.setting.until == until
    assert runs.setting.limit is None
    assert report.until == "fit 1, epoch 3, batch 4"


@pytest.mark.parametrize(
    ("batches", "options", "expected"),
    [
        (8, (), ("--save-every", "2 batches")),
        (1, (), ("--save-every", "1 batches")),
        (4000, (), ("--save-every", "200 batches")),
        (8, ("--save-every", "1 epoch"), ("--save-every", "1 epoch")),
        (8, ("--exact",), ("--exact", "--save-every", "2 batches")),
    ],
)
def test_the_interval_between_saves(batches, options, expected, tmp_path):
    """Several saves in an epoch, unless the user has said when."""
    runs = MadeUp(tmp_path, Course((epochs(2, batches=batches),), saves=2))
    runs.setting = Setting(tmp_path, Project(tmp_path), Program("a.py", options=options), {})
    rehearse(runs)
    assert runs.setting.program.options == expected
