"""The output of the commands: tables for users, JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from io import StringIO
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.filesize import decimal
from rich.measure import Measurement
from rich.table import Table

from keepfit.callbacks.checkpoint.read.inspection import (
    CommittedState,
    ObjectCheck,
    Summary,
    created_at,
)
from keepfit.callbacks.logs.printable import printable

if TYPE_CHECKING:
    from keepfit.callbacks.checkpoint.read.history import History

_UNLIMITED: Final = 1_000_000
"""Columns of what is no terminal: more than any cell needs, since names have a limit."""

_AS_IT_IS: Final[Mapping[str, Any]] = {"markup": False, "emoji": False, "highlight": False}
"""Names come from a store: brackets and colons in them mean nothing."""

_TEXTS: Final = frozenset(
    ("run", "state", "checkpoint", "object", "part", "machine", "started", "ended", "")
)
"""Names of the columns that have texts."""


def as_json(value: Any) -> str:
    """Return one JSON document. Times are ISO 8601, UTC; sizes are in bytes."""
    text = json.dumps(value, default=_plain, indent=1, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def runs_table(found: Sequence[Summary], now: datetime) -> Table:
    """Return a table with a row for each run."""
    table = data_table("run", "state", "fit", "epoch", "batch", "step", "age", "size", "attempts")
    for run in found:
        numbers = ("" if n is None else str(n) for n in (run.fit, run.epoch, run.batch, run.step))
        age = format_age(now - run.saved) if run.saved else ""
        state = f"{run.state}: {run.reason}" if run.reason else run.state
        size = decimal(run.size) if run.size else ""
        add_row(table, run.run, state, *numbers, age, size, str(run.attempts))
    return table


def checkpoints_table(found: CommittedState, now: datetime) -> Table:
    """Return a table with a row for each committed checkpoint, the newest first."""
    table = data_table("checkpoint", "fit", "epoch", "batch", "step", "attempt", "age", "size", "")
    for key in found.head.manifests():
        name = key.rpartition("/")[2].removesuffix(".json")  # a row has to fit in 80 columns
        if key in found.problems:
            add_row(table, name, *[""] * 7, "can't be read")
            continue
        manifest = found.manifests[key]
        position = manifest.position
        made = created_at(manifest)
        add_row(
            table,
            name,
            *map(str, (position.fit + 1, position.epoch + 1, position.batch, position.step)),
            str(manifest.attempt),
            format_age(now - made) if made else "",
            decimal(sum(shard.size for shard in manifest.shards)),
            "final" if position.finished else "",
        )
    return table


def history_table(found: History) -> Table:
    """Return a table with a row for each finished epoch: the history that `fit` would return."""
    columns = {name: values for name, values in found.history.items() if values}
    table = data_table("epoch", *columns)
    for row, epoch in enumerate(found.epoch):
        numbers = (values[row] if row < len(values) else "" for values in columns.values())
        cells = (f"{n:.6g}" if isinstance(n, float) else str(n) for n in numbers)
        add_row(table, str(epoch + 1), *cells)
    return table


def run_document(
    summary: Summary, found: CommittedState, history: History | None
) -> dict[str, Any]:
    """Return the fields of `show --json`."""
    newest = found.newest
    checkpoints = {
        key: {
            "position": manifest.position.model_dump(),
            "created": manifest.created,
            "objects": manifest.objects(),
        }
        for key, manifest in found.manifests.items()
    }
    return {
        "run": summary,
        "history": history,
        "versions": newest.versions if newest else None,
        "checkpoints": checkpoints,
        "problems": found.problems,
    }


def verification_table(found: Iterable[ObjectCheck]) -> Table:
    """Return a table with a row for each object that was read."""
    table = data_table("object", "size", "")
    for finding in found:
        add_row(table, finding.key, decimal(finding.size), finding.problem or "ok")
    return table


def text_table(*columns: str) -> Table:
    """Return an empty table, for text rather than numbers."""
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def show(content: Table | str) -> None:
    """Print to standard output.

    Without a terminal, a row is one line with all of its content, and has no control characters,
    whatever FORCE_COLOR says: `grep` and `awk` read it.
    """
    if isinstance(content, str):
        sys.stdout.write(f"{content}\n")
    elif sys.stdout.isatty():
        Console(**_AS_IT_IS).print(content)
    else:
        sys.stdout.writelines(f"{line}\n" for line in _plain_lines(content))


def _plain_lines(table: Table) -> Iterator[str]:
    """Yield the lines of a table that is as wide as its content needs."""
    plain = Console(file=StringIO(), color_system=None, force_terminal=False, **_AS_IT_IS)
    unlimited = plain.options.update(max_width=_UNLIMITED)
    plain.width = max(1, Measurement.get(plain, unlimited, table).maximum)
    with plain.capture() as captured:
        plain.print(table)
    yield from (line.rstrip() for line in captured.get().removesuffix("\n").split("\n"))


def add_row(table: Table, *cells: str) -> None:
    """Add a row. What a terminal would obey is written as an escape: names come from a store."""
    table.add_row(*(printable(cell) for cell in cells))


def data_table(*columns: str) -> Table:
    """Return an empty table, with numbers to the right and texts to the left."""
    table = Table(box=None, pad_edge=False)
    for name in columns:
        left = name in _TEXTS
        table.add_column(printable(name), justify="left" if left else "right", overflow="fold")
    return table


def format_age(age: timedelta) -> str:
    """Return an age as text, in its largest useful unit."""
    seconds = max(0, int(age.total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    import numpy as np  # a table without arrays does not need it

    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} can't be printed as JSON")
