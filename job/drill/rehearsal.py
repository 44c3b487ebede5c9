"""The rehearsal: two uninterrupted runs, and runs that are interrupted at each moment."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import median
from typing import Protocol

from keepfit.job.drill.attempts import Ending, Run, Setting
from keepfit.job.drill.compare.causes import Comparison, probable_cause
from keepfit.job.drill.compare.differences import Difference, differences
from keepfit.job.drill.compare.outcome import Outcome
from keepfit.job.drill.instructions import Program
from keepfit.job.drill.moments import Choice, Course, Kind, Moment, choose

SAVES_PER_EPOCH = 4
MOST_BATCHES = 200
"""Without --save-every: so many saves in an epoch, and so many batches between two at most."""


class Result(StrEnum):
    """The result of one row of the table."""

    IDENTICAL = "identical"
    DIFFERS = "differs"
    FAILED = "failed"
    ABSENT = "none in this script"
    NOT_REACHED = "not reached"


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        moment: a kind of interruption, or a kind of uninterrupted run.
        place: where it was.
        detail: the first difference, or the reason.
        cause: its probable cause.
        folder: the files of the run, if it has failed or differs.
    """

    moment: str
    result: Result
    place: str = ""
    detail: str = ""
    cause: str = ""
    folder: str = ""


@dataclass(frozen=True)
class Report:
    """The result of a drill.

    Attributes:
        reproducible: two uninterrupted runs agree.
        conclusion: one sentence for people.
        until: the place at which the runs were compared; empty for the end of the script.
        first: all differences of the first row that differs, in the order of training.
    """

    rows: tuple[Row, ...]
    reproducible: bool
    conclusion: str
    until: str = ""
    first: tuple[Difference, ...] = ()

    @property
    def identical(self) -> bool:
        """True if no row differs."""
        return self.reproducible and not any(
            row.result in (Result.DIFFERS, Result.FAILED) for row in self.rows
        )


class CannotDrill(Exception):
    """The script can't be drilled; the message says why.

    Attributes:
        has_log: the message names a file in the folder of the drill.
    """

    def __init__(self, reason: str, *, has_log: bool = False) -> None:
        super().__init__(reason)
        self.has_log = has_log


PLAIN, KEPT = "uninterrupted, plain Python", "uninterrupted, keepfit run"

Progress = Callable[[str, int, int], None]
"""Called before each attempt with what it is, the attempts done, and the attempts to do."""


class Runs(Protocol):
    """Runs a script, uninterrupted or interrupted.

    Attributes:
        setting: what all further runs have in common.
    """

    setting: Setting

    def run(
        self,
        name: str,
        begins: Callable[[int], None],
        *,
        kept: bool,
        moments: Sequence[Moment] = (),
    ) -> Run:
        """Run the script in a new folder, which `name` names; see Runner."""

    def course(self, run: Run) -> Course:
        """Return the course of an uninterrupted run."""


class Rehearsal:
    """One drill of a script.

    Args:
        kinds: the kinds of interruptions to rehearse.
    """

    def __init__(
        self, runner: Runs, progress: Progress, kinds: Collection[Kind] = tuple(Kind)
    ) -> None:
        self._runner = runner
        self._kinds = kinds
        self._progress = progress
        self._done, self._total = 0, 2
        self._first: tuple[Difference, ...] = ()

    def rehearse(self) -> Report:
        """Run the script uninterrupted and interrupted, and return how the results compare.

        Raises:
            CannotDrill: the script fails without interruptions, or trains nothing.
        """
        plain = self._uninterrupted("plain", PLAIN, kept=False)
        setting = self._runner.setting
        course = self._runner.course(plain)
        self._runner.setting = replace(
            setting,
            seconds=plain.seconds,
            until=course.until,
            limit=None,
            program=_with_saves(setting.program, course),
        )
        kept = self._uninterrupted("kept", KEPT, kept=True)
        course = self._runner.course(kept)
        if not course.fits:
            raise CannotDrill("the script calls no fit of Keras, so there is nothing to interrupt")
        expected, found = _outcome(plain), _outcome(kept)
        if differences(expected, found):
            return self._not_reproducible(expected, found)
        choice = choose(course, self._kinds)
        rows = [Row(PLAIN, Result.IDENTICAL), Row(KEPT, Result.IDENTICAL)]
        rows += self._interrupted(found, choice)
        return self._report(rows, str(course.until) if course.until else "")

    def _uninterrupted(self, name: str, title: str, *, kept: bool) -> Run:
        run = self._run(name, title, kept=kept)
        if run.ending is not Ending.COMPLETE:
            reason = f"without an interruption ({title}): {run.reason}; log: {run.log}"
            raise CannotDrill(reason, has_log=True)
        return run

    def _not_reproducible(self, plain: Outcome, kept: Outcome) -> Report:
        """Find out whether the script itself differs in each run, or under keepfit only."""
        again = _outcome(self._uninterrupted("again", "plain Python once more", kept=False))
        own = differences(plain, again)
        comparison = self._comparison(plain, again if own else kept, interrupted=False)
        self._first = tuple(comparison.differences)
        first, cause = str(comparison.first), probable_cause(comparison)
        if own:
            conclusion = "not reproducible: two runs without any interruption differ"
        else:
            conclusion = "differs under keepfit run without any interruption"
        rows = (
            Row(PLAIN, Result.DIFFERS if own else Result.IDENTICAL, "", first, cause),
            Row(KEPT, Result.DIFFERS, "", first, cause),
        )
        return Report(rows, not own, conclusion, first=self._first)

    def _interrupted(self, expected: Outcome, choice: Choice) -> list[Row]:
        """Interrupt one run at all moments; if it differs, one run at each."""
        if len(choice.moments) < 2:
            alone = {each.kind: self._alone(expected, each) for each in choice.moments}
            return _in_order(alone, choice)
        run = self._run("interrupted", "interrupted at each moment", choice.moments)
        fine = run.outcome is not None and not differences(expected, run.outcome)
        if fine:
            shutil.rmtree(run.folder)
        rows = {
            moment.kind: Row(moment.kind, Result.IDENTICAL, str(moment.place))
            for moment in (run.reached if fine else ())
        }
        for moment in choice.moments:
            if moment.kind not in rows:
                rows[moment.kind] = self._alone(expected, moment)
        if not fine and all(row.result is Result.IDENTICAL for row in rows.values()):
            title = "all of these, one after the other"
            return [*_in_order(rows, choice), self._row(title, "", expected, run)]
        return _in_order(rows, choice)

    def _alone(self, expected: Outcome, moment: Moment) -> Row:
        name = moment.kind.replace(" ", "-")
        run = self._run(name, moment.kind, (moment,))
        return self._row(moment.kind, str(moment.place), expected, run)

    def _row(self, title: str, place: str, expected: Outcome, run: Run) -> Row:
        if run.outcome is None:
            detail = f"{run.reason}; log: {run.log}"
            return Row(title, Result.FAILED, place, detail, folder=str(run.folder))
        comparison = self._comparison(expected, run.outcome, interrupted=True)
        if comparison.differences:
            self._first = self._first or tuple(comparison.differences)
            cause = probable_cause(comparison)
            first = str(comparison.first)
            return Row(title, Result.DIFFERS, place, first, cause, str(run.folder))
        shutil.rmtree(run.folder)
        if not run.reached:
            detail = "this run has come to its end before it"
            return Row(title, Result.NOT_REACHED, place, detail)
        return Row(title, Result.IDENTICAL, place)

    def _run(
        self, name: str, title: str, moments: Sequence[Moment] = (), *, kept: bool = True
    ) -> Run:
        self._total = max(self._total, self._done + len(moments) + 1)

        def begins(attempt: int) -> None:
            shown = f"{title}, attempt {attempt}" if moments else title
            self._progress(shown, self._done, self._total)
            self._done += 1

        return self._runner.run(name, begins, kept=kept, moments=moments)

    def _comparison(self, expected: Outcome, found: Outcome, *, interrupted: bool) -> Comparison:
        return Comparison(
            expected,
            found,
            differences(expected, found),
            interrupted=interrupted,
            deterministic=self._runner.setting.program.deterministic,
        )

    def _report(self, rows: list[Row], until: str) -> Report:
        interrupted = [row for row in rows if row.moment not in (PLAIN, KEPT)]
        same = sum(row.result is Result.IDENTICAL for row in interrupted)
        wrong = [row for row in interrupted if row.result in (Result.DIFFERS, Result.FAILED)]
        if wrong:
            conclusion = f"differs: {len(wrong)} of {len(wrong) + same} interruptions"
        elif same:
            conclusion = f"identical: {same} of {same} interruptions"
        else:
            raise CannotDrill("no moment was reached at which the script could be interrupted")
        return Report(tuple(rows), True, conclusion, until, self._first)


def _with_saves(program: Program, course: Course) -> Program:
    """Return the program with an interval between saves, if the user has given none.

    By the clock, a short training would be saved at its end only.
    """
    if "--save-every" in program.options:
        return program
    sizes = [each.batches[-1] + 1 for _, each in course.epochs() if each.batches]
    batches = int(median(sizes)) // SAVES_PER_EPOCH if sizes else 1
    every = f"{min(max(batches, 1), MOST_BATCHES)} batches"
    return replace(program, options=(*program.options, "--save-every", every))


def _outcome(run: Run) -> Outcome:
    if run.outcome is None:
        raise CannotDrill(run.reason)
    return run.outcome


def _in_order(rows: dict[Kind, Row], choice: Choice) -> list[Row]:
    """Return a row for each kind, in the order of the documentation."""
    absent = {
        kind: Row(kind, Result.ABSENT, detail=reason) for kind, reason in choice.missing.items()
    }
    return [{**rows, **absent}[kind] for kind in Kind if kind in {**rows, **absent}]
