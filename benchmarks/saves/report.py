"""The figures as tables: each with its goal, its median and how far it spreads."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from rich.table import Table

Figures = Mapping[str, Any]
MS, US = 1e3, 1e6
WRITE = "the whole write"
"""The part of the writer's work that the others are part of."""


def tables(found: Figures) -> Iterator[Table]:
    """All of them, the figures with a goal first."""
    yield _goals(found)
    yield _parts(found["keepfit"], "hook_parts", "A save on the training thread, ms")
    yield _writer(found["keepfit"])
    yield _many(found["many"])
    yield _shuffled(found["shuffled"])


def _goals(found: Figures) -> Table:
    ours, theirs, control = found["keepfit"], found["keras"], found["none"]
    stall, their_stall = (statistics.median(_all(kind, "stalls")) for kind in (ours, theirs))
    memory = [_peak(kind) - _peak(control) for kind in (ours, theirs)]
    hooks = {
        kind: found["hooks"][kind] for kind in ("none", "idle", "keepfit", "ten_more", "ten_held")
    }
    written = sum(run["written"] for run in ours)
    state = control[0]["state_mib"]
    table = Table(title=f"{state:.0f} MiB of state, a save every {control[0]['every']} batches")
    _columns(table, "figure", "goal", "median", "least", "most", "samples")
    _row(table, "stall of a save, ms", "≤ 10", _all(ours, "stalls"), MS, 2)
    _row(table, "· BackupAndRestore", "", _all(theirs, "stalls"), MS)
    table.add_row("· our share of it", "≤ 1/100", f"1/{their_stall / stall:.0f}")
    _row(table, "batches after a save: slower by, ms in all", "", _all(ours, "slower"), MS)
    _row(table, "· BackupAndRestore", "", _all(theirs, "slower"), MS)
    _row(table, "· training alone, so noise", "", _all(control, "slower"), MS)
    _row(table, "stall and slower batches together, ms", "", _together(ours), MS)
    _row(table, "· BackupAndRestore", "", _together(theirs), MS)
    table.add_row("hooks without a save, µs a batch", "≤ 100", _over(hooks, "none"))
    table.add_row("· beyond an idle callback", "", _over(hooks, "idle"))
    forwarding = _between(hooks, "ten_held", "keepfit") - _between(hooks, "ten_more", "idle")
    table.add_row("forwarding to ten callbacks, µs a batch", "≤ 20", f"{forwarding:.0f}")
    _row(table, "· by the clock, beside 288 MiB", "", [run["hooks"] for run in ours], US)
    _row(table, "· a batch without callbacks", "", hooks["none"], US)
    table.add_row("more memory, MiB", "", f"{memory[0]:.0f}")
    table.add_row("· as a share of the state", "≤ 1.00", f"{memory[0] / state:.2f}")
    table.add_row("· BackupAndRestore, MiB", "", f"{memory[1]:.0f}")
    _row(table, "until a save is durable, ms", "", _all(ours, "durable"), MS)
    _row(table, "the writer's CPU time for it, ms", "", _each(ours, "write_cpu", WRITE), MS)
    _row(table, "a batch of training alone, ms", "", [run["batch"] for run in control], MS)
    _row(table, "first batch of a fit, ms", "", [run["first_batch"] for run in ours], MS)
    _row(table, "last save, for which fit waits, ms", "", [run["end"] for run in ours], MS)
    due = len(_all(control, "stalls"))
    table.caption = f"{written} of {due} checkpoints that were due have been written"
    return table


def _parts(runs: Sequence[Figures], key: str, title: str) -> Table:
    table = Table(title=title)
    _columns(table, "part", "median", "least", "most")
    for name in runs[0][key]:
        _row(table, name, None, _each(runs, key, name), MS, 3, count=False)
    return table


def _writer(runs: Sequence[Figures]) -> Table:
    table = Table(title="The same save on the writer's thread, ms")
    _columns(table, "part", "median", "least", "most", "CPU, median", "CPU, least")
    for name in runs[0]["write_parts"]:
        wall, cpu = (_each(runs, key, name) for key in ("write_parts", "write_cpu"))
        table.add_row(
            name, *_spread(wall, MS, 1), *(f"{f(cpu) * MS:.1f}" for f in (statistics.median, min))
        )
    return table


def _many(found: Sequence[tuple[int, Figures]]) -> Table:
    table = Table(title="Many small variables, ms")
    _columns(
        table, "variables", "stall", "least", "most", "first batch", "new epoch", "durable", "CPU"
    )
    for number, run in found:
        rest = (statistics.median(run[key]) * MS for key in ("new_epoch", "durable", "cpu"))
        first = f"{run['first_batch'] * MS:.0f}"
        table.add_row(
            str(number), *_spread(run["stalls"], MS, 2), first, *(f"{value:.1f}" for value in rest)
        )
    return table


def _shuffled(found: Sequence[tuple[int, Figures]]) -> Table:
    table = Table(title="Shuffle buffers: a save that renews the iterator's state, ms more")
    _columns(table, "rows of 4 KiB", "state, MiB", "stall", "least", "most", "writer")
    for rows, run in found:
        writer = f"{statistics.median(run['written']) * MS:.1f}"
        table.add_row(str(rows), f"{run['mib']:.1f}", *_spread(run["taken"], MS, 1), writer)
    return table


def _columns(table: Table, first: str, *others: str) -> None:
    table.title_justify, table.title_style = "left", "bold"
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")


def _row(
    table: Table,
    name: str,
    goal: str | None,
    values: Sequence[float],
    scale: float,
    digits: int = 0,
    *,
    count: bool = True,
) -> None:
    cells = [] if goal is None else [goal]
    table.add_row(
        name, *cells, *_spread(values, scale, digits), *([str(len(values))] if count else [])
    )


def _spread(values: Sequence[float], scale: float, digits: int) -> list[str]:
    found = (statistics.median(values), min(values), max(values))
    return [f"{value * scale:.{digits}f}" for value in found]


def _all(runs: Sequence[Figures], key: str) -> list[float]:
    return list(chain.from_iterable(run[key] for run in runs))


def _each(runs: Sequence[Figures], key: str, name: str) -> list[float]:
    return list(chain.from_iterable(run[key][name] for run in runs))


def _together(runs: Sequence[Figures]) -> list[float]:
    return [a + b for a, b in zip(_all(runs, "stalls"), _all(runs, "slower"), strict=True)]


def _over(hooks: Mapping[str, Sequence[float]], base: str) -> str:
    return f"{_between(hooks, 'keepfit', base):.0f}"


def _between(hooks: Mapping[str, Sequence[float]], kind: str, base: str) -> float:
    """The difference of the lower quartiles: what else the machine does only ever adds time."""
    ours, other = (statistics.quantiles(hooks[name], n=4)[0] for name in (kind, base))
    return (ours - other) * US


def _peak(runs: Sequence[Figures]) -> float:
    return float(statistics.median(run["peak_mib"] for run in runs))
