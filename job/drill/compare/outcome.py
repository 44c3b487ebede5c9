"""What a run has left behind, collected before its folder is deleted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keepfit.callbacks import events
from keepfit.job.drill.compare.files import Parts, written_files
from keepfit.job.drill.compare.output import last_lines
from keepfit.job.drill.folders import RunFolder, Stamp
from keepfit.job.drill.traces import FitState, ends_of, printed_in_fits, read_records, starts_of

_EXPECTED = frozenset({events.PREEMPTED, events.NOTICE, events.THREADS_ABANDONED})
"""Events that an interruption causes."""


@dataclass(frozen=True)
class Warned:
    """A warning of keepfit in the log of an attempt."""

    event: str
    reason: str
    fix: str = ""


@dataclass(frozen=True)
class Outcome:
    """The result of one run.

    Attributes:
        ends: the state of each fit at its end, or where the run was ended.
        starts: the state with which each fit began, where the run has recorded it.
        files: a digest of each part of each file that the script has written.
        output: the lines of standard output that were printed outside of fits.
        warnings: keepfit's own warnings, without repetitions.
    """

    ends: Mapping[int, FitState]
    starts: Mapping[int, FitState] = field(default_factory=dict)
    files: Mapping[str, Parts] = field(default_factory=dict)
    output: tuple[str, ...] = ()
    warnings: tuple[Warned, ...] = ()


def collect(
    folder: RunFolder, copied: Mapping[str, Stamp], attempts: int, ignored: Iterable[str]
) -> Outcome:
    """Return the outcome of a run of so many attempts."""
    traces = [folder.of_attempt("trace", number) for number in range(1, attempts + 1)]
    last = traces[-1]
    printed = folder.of_attempt("out", attempts).read_bytes()
    logs = [folder.of_attempt("err", number) for number in range(1, attempts + 1)]
    return Outcome(
        ends_of(map(read_records, traces)),
        starts_of(read_records(last)),
        written_files(folder.work, copied, ignored),
        tuple(last_lines(printed, printed_in_fits(read_records(last)))),
        tuple(dict.fromkeys(warned for log in logs for warned in warnings_in(log))),
    )


def logged(path: Path) -> Iterator[dict[str, Any]]:
    """Yield keepfit's events in the standard error of an attempt."""
    for line in path.read_text("utf-8", "replace").splitlines():
        if line.startswith("{"):
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # a line of the script's own
            if isinstance(entry, dict) and "event" in entry and "level" in entry:
                yield entry


def warnings_in(path: Path) -> Iterator[Warned]:
    """Yield the warnings and errors of keepfit in the standard error of an attempt."""
    for entry in logged(path):
        if entry["level"] in ("warning", "error") and entry["event"] not in _EXPECTED:
            reason = str(entry.get("reason", ""))
            yield Warned(str(entry["event"]), reason, str(entry.get("fix", "")))


def reason_of_end(path: Path) -> str:
    """Return why an attempt has failed: keepfit's reason, or the last line of its traceback."""
    refusals = [entry for entry in logged(path) if entry["level"] == "error"]
    if refusals:
        last = refusals[-1]
        return "; ".join(str(last[name]) for name in ("reason", "fix") if last.get(name))
    lines = [line for line in path.read_text("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it has printed no reason"
