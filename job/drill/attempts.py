"""The runs of a drill: each is an attempt after the other, until the script has come to its end."""

from __future__ import annotations

import os
import signal
import subprocess  # nosec B404 # starts the script of the user
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path
from typing import Final

from keepfit.callbacks.errors import EXIT_PREEMPTED
from keepfit.job.drill.compare.outcome import Outcome, collect, reason_of_end
from keepfit.job.drill.folders import Project, RunFolder, prepare
from keepfit.job.drill.instructions import Instructions, Limit, Program
from keepfit.job.drill.moments import Course, Kind, Moment, Place
from keepfit.job.drill.traces import course_of, read_records

SPARE_ATTEMPTS: Final = 2
"""Attempts beyond one for each interruption and one to the end."""

LIMIT_FACTOR, LIMIT_SECONDS = 10, 300.0
"""An attempt may take so many times as long as the uninterrupted run, and so many seconds more."""

EXPECTED_CODES: Final = {Kind.NOTICE: (EXIT_PREEMPTED, 0)}
"""Exit codes after an interruption; SIGKILL for all others. A notice may come in the last batch."""


class Ending(Enum):
    """How a run has ended."""

    COMPLETE = auto()
    FAILED = auto()
    HUNG = auto()


@dataclass(frozen=True)
class Attempt:
    """An attempt that has ended.

    Attributes:
        code: its exit code, or the negative number of the signal.
        interrupted: it has interrupted itself.
        hung: it was ended after the longest time that an attempt may take.
    """

    code: int
    seconds: float
    interrupted: bool = False
    hung: bool = False


@dataclass(frozen=True)
class Run:
    """A run that has ended.

    Attributes:
        folder: where its files are, until it is deleted.
        outcome: None if it has failed.
        reached: the moments at which it was interrupted.
        reason: why it has failed.
        attempts: number of processes.
        seconds: duration of the longest attempt.
    """

    folder: Path
    ending: Ending
    attempts: int
    seconds: float
    reached: tuple[Moment, ...] = ()
    outcome: Outcome | None = None
    code: int = 0
    reason: str = ""
    log: str = ""


@dataclass(frozen=True)
class Setting:
    """What all runs of a drill have in common.

    Attributes:
        base: the temporary folder of the drill.
        limit: where the runs end, as the user has given it; `until`, once that place is known.
        ignored: patterns of files that are not compared.
        seconds: duration of an uninterrupted run; None if unknown.
    """

    base: Path
    project: Project
    program: Program
    environment: Mapping[str, str]
    limit: Limit | None = None
    until: Place | None = None
    ignored: tuple[str, ...] = ()
    seconds: float | None = None

    @property
    def most_seconds(self) -> float | None:
        """Seconds after which an attempt is taken for one that hangs."""
        return None if self.seconds is None else LIMIT_FACTOR * self.seconds + LIMIT_SECONDS


Start = Callable[
    [Sequence[str], Path, Mapping[str, str], Path, Path, float | None],
    Attempt,
]
"""Runs a process to its end, as run_process does, whose arguments it has."""


class Runner:
    """Starts the attempts of a drill, one at a time.

    Args:
        start: starts a process; run_process if None.
    """

    def __init__(self, setting: Setting, start: Start | None = None) -> None:
        self.setting = setting
        self._start = start or run_process

    def run(
        self,
        name: str,
        begins: Callable[[int], None],
        *,
        kept: bool,
        moments: Sequence[Moment] = (),
    ) -> Run:
        """Run the script in a new folder, interrupted at these moments.

        Args:
            name: the name of the folder.
            begins: called with the number of each attempt, before it is started.
            kept: under `keepfit run`; otherwise in plain Python.
        """
        folder, copied = prepare(self.setting.base, self.setting.project)
        pending, reached = list(moments), []
        seconds, code, number = 0.0, 0, 0
        ending = Ending.FAILED
        while number <= len(moments) + SPARE_ATTEMPTS:
            number += 1
            moment = pending[0] if pending else None
            begins(number)
            attempt = self._attempt(folder, number, moment, kept=kept)
            code, seconds = attempt.code, max(seconds, attempt.seconds)
            if attempt.hung:
                ending = Ending.HUNG
                break
            if moment and attempt.interrupted:
                reached.append(pending.pop(0))
                if code in EXPECTED_CODES.get(moment.kind, (-signal.SIGKILL,)) and code != 0:
                    continue
            ending = Ending.COMPLETE if code == 0 else Ending.FAILED
            break
        complete = ending is Ending.COMPLETE
        outcome = collect(folder, copied, number, self.setting.ignored) if complete else None
        log = folder.of_attempt("err", number)
        reason = "" if complete else _reason(ending, code, log)
        place = self.setting.base / name
        folder.path.rename(place)
        return Run(
            place,
            ending,
            number,
            seconds,
            tuple(reached),
            outcome,
            code,
            reason,
            str(place / log.name),
        )

    def course(self, run: Run) -> Course:
        """Return the course of an uninterrupted run."""
        folder = RunFolder(run.folder, self.setting.project.folder.name)
        return course_of(read_records(folder.of_attempt("trace", 1)))

    def _attempt(
        self, folder: RunFolder, number: int, moment: Moment | None, *, kept: bool
    ) -> Attempt:
        instructions = Instructions(
            self.setting.program,
            kept,
            str(folder.of_attempt("trace", number)),
            folder.store,
            str(folder.work),
            str(folder.path),
            moment,
            None if self.setting.until else self.setting.limit,
            self.setting.until,
            describe_starts=moment is None and number == 1,
        )
        instructions.write(folder.of_attempt("json", number))
        command = [sys.executable, "-m", "keepfit.job.drill.child.entry"]
        command.append(str(folder.of_attempt("json", number)))
        ended = self._start(
            command,
            folder.temporary,
            folder.environment(self.setting.environment, self.setting.project.folder),
            folder.of_attempt("out", number),
            folder.of_attempt("err", number),
            self.setting.most_seconds,
        )
        records = read_records(folder.of_attempt("trace", number))
        interrupted = any(record["kind"] == "interrupted" for record in records)
        return replace(ended, interrupted=interrupted)


def run_process(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    out: Path,
    err: Path,
    limit: float | None,
) -> Attempt:
    """Run a process to its end, and end all others that it has started, as a lost machine does.

    They also end if this process is interrupted.
    """
    started = time.monotonic()
    hung = False
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(  # noqa: S603 # nosec B603 # the script of the user
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,  # Ctrl-C is for this process, which ends the other one
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            hung, code = True, -signal.SIGKILL
        finally:
            _end_group(process.pid)
            process.wait()
    return Attempt(code, time.monotonic() - started, hung=hung)


def _end_group(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _reason(ending: Ending, code: int, log: Path) -> str:
    if ending is Ending.HUNG:
        return "it has not come to its end in ten times the time of an uninterrupted run"
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    if code == EXIT_PREEMPTED:
        return "it was interrupted more often than the drill has done it"
    return f"exit code {code}: {reason_of_end(log)}"
