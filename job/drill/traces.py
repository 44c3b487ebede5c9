"""The trace of one attempt: a line of JSON for each event of its training."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keepfit.job.drill.moments import Course, EpochCourse, Place

Record = dict[str, Any]


class TraceWriter:
    """Writes a trace. Each line is one write to the file, so that SIGKILL loses none."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, kind: str, **fields: Any) -> None:
        """Append a record."""
        os.write(self._file, json.dumps({"kind": kind, **fields}).encode() + b"\n")


def read_records(path: Path) -> Iterator[Record]:
    """Yield the records of an attempt; none if it has not begun."""
    if path.exists():
        with path.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


@dataclass(frozen=True)
class FitState:
    """The state of a fit at its end, or where the run was ended.

    Attributes:
        fit: number of the fit in the run.
        place: file and line of the call.
        history: the values of each epoch, as text, by name.
        epochs: the epochs of the history.
        variables: a digest of each variable, by name.
        generators: a digest of each random generator of the process, by name.
    """

    fit: int
    place: str
    history: dict[str, list[str]] = field(default_factory=dict)
    epochs: tuple[int, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    generators: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_record(cls, record: Record) -> FitState:
        """Return the state in a record."""
        return cls(
            record["fit"],
            record["place"],
            record.get("history", {}),
            tuple(record.get("epochs", ())),
            record["variables"],
            record["generators"],
        )


def course_of(records: Iterable[Record]) -> Course:
    """Return the course of an uninterrupted run."""
    fits: list[list[dict[str, Any]]] = []
    saves, until = 0, None
    for record in records:
        match record["kind"]:
            case "fit":
                fits.append([])
            case "epoch":
                epoch = {"epoch": record["epoch"], "batches": [], "validation": [], "ended": False}
                fits[-1].append(epoch)
            case "batch":
                fits[-1][-1]["batches"].append(record["batch"])
            case "validation":
                fits[-1][-1]["validation"].append(record["batch"])
            case "epoch_end":
                fits[-1][-1]["ended"] = True
            case "save":
                saves += 1
            case "until":
                until = Place.of_list(record["at"])
    courses = (
        tuple(
            EpochCourse(e["epoch"], tuple(e["batches"]), tuple(e["validation"]), e["ended"])
            for e in epochs
        )
        for epochs in fits
    )
    return Course(tuple(courses), saves, until)


def starts_of(records: Iterable[Record]) -> dict[int, FitState]:
    """Return the state at the begin of each fit that recorded one."""
    found = (FitState.of_record(record) for record in records if record["kind"] == "start")
    return {state.fit: state for state in found}


def ends_of(attempts: Iterable[Iterable[Record]]) -> dict[int, FitState]:
    """Return the final state of each fit, of the attempt that has trained it last.

    An attempt that passes over a finished fit trains nothing, and its record counts only if there
    is no earlier one.
    """
    ends: dict[int, FitState] = {}
    for records in attempts:
        for record in records:
            if record["kind"] in ("fit_end", "until") and (
                record["trained"] or record["fit"] not in ends
            ):
                ends[record["fit"]] = FitState.of_record(record)
    return ends


def printed_in_fits(records: Iterable[Record]) -> list[tuple[int, int]]:
    """Return the ranges of standard output, in bytes, that were printed during fits."""
    ranges: list[tuple[int, int]] = []
    begin: int | None = None
    for record in records:
        if record["kind"] == "fit":
            begin = record["printed"]
        elif record["kind"] in ("fit_end", "until") and begin is not None:
            if record["printed"] is not None:
                ranges.append((begin, record["printed"]))
            begin = None
    return ranges
