"""Show the figures as tables, each with its goal, median and spread."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from rich.table import Table

Figures = Mapping[str, Any]
MS, US = 1e3, 1e6
WRITE = "whole write"
"""The name of the writer's whole work in pieces.py, which would import TensorFlow."""


def tables(figures: Figures) -> Iterator[Table]:
    """Yield all tables, the figures with a goal first."""
    yield _goals(figures)
    yield _parts(figures["keepfit"], "hook_parts", "A save on the training thread, ms")
    yield _writer(figures["keepfit"])
    yield _many(figures["many"])
    yield _shuffled(figures["shuffled"])


def _goals(figures: Figures) -> Table:
    ours, keras, control = figures["keepfit"], figures["keras"], figures["none"]
    stall, keras_stall = (statistics.median(_all(kind, "stalls")) for kind in (ours, keras))
    memory = [_peak(kind) - _peak(control) for kind in (ours, keras)]
    hooks = {
        kind: figures["hooks"][kind] for kind in ("none", "idle", "keepfit", "ten_more", "ten_held")
    }
    written = sum(run["written"] for run in ours)
    state = control[0]["state_mib"]
    table = Table(title=f"{state:.0f} MiB of state, a save every {control[0]['every']} batches")
    _columns(table, "figure", "goal", "median", "least", "most", "samples")
    _row(table, "stall of a save, ms", "≤ 10", _all(ours, "stalls"), MS, 2)
    _row(table, "· BackupAndRestore", "", _all(keras, "stalls"), MS)
    table.add_row("· keepfit's as a share of it", "≤ 1/100", f"1/{keras_stall / stall:.0f}")
    _row(table, "slowdown of the batches after a save, ms in all", "", _all(ours, "slower"), MS)
    _row(table, "· BackupAndRestore", "", _all(keras, "slower"), MS)
    _row(table, "· without saves (noise)", "", _all(control, "slower"), MS)
    _row(table, "stall and slowdown together, ms", "", _together(ours), MS)
    _row(table, "· BackupAndRestore", "", _together(keras), MS)
    table.add_row("hooks without a save, µs a batch", "≤ 100", _over(hooks, "none"))
    table.add_row("· in addition to an idle callback", "", _over(hooks, "idle"))
    forwarding = _between(hooks, "ten_held", "keepfit") - _between(hooks, "ten_more", "idle")
    table.add_row("forwarding to ten callbacks, µs a batch", "≤ 20", f"{forwarding:.0f}")
    _row(table, "hooks by the clock, training 288 MiB", "", [run["hooks"] for run in ours], US)
    _row(table, "· a batch without callbacks", "", hooks["none"], US)
    table.add_row("additional memory, MiB", "", f"{memory[0]:.0f}")
    table.add_row("· as a share of the state", "≤ 1.00", f"{memory[0] / state:.2f}")
    table.add_row("· BackupAndRestore, MiB", "", f"{memory[1]:.0f}")
    _row(table, "time until a save is durable, ms", "", _all(ours, "durable"), MS)
    _row(table, "· CPU time of the writer, ms", "", _each(ours, "write_cpu", WRITE), MS)
    _row(table, "a batch without saves, ms", "", [run["batch"] for run in control], MS)
    _row(table, "first batch of a fit, ms", "", [run["first_batch"] for run in ours], MS)
    _row(table, "last save, which blocks the end of fit, ms", "", [run["end"] for run in ours], MS)
    due = len(_all(control, "stalls"))
    table.caption = f"{written} of {due} due checkpoints were written"
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


def _many(runs: Sequence[tuple[int, Figures]]) -> Table:
    table = Table(title="Many small variables, ms")
    _columns(
        table, "variables", "stall", "least", "most", "first batch", "new epoch", "durable", "CPU"
    )
    for number, run in runs:
        rest = (statistics.median(run[key]) * MS for key in ("new_epoch", "durable", "cpu"))
        first = f"{run['first_batch'] * MS:.0f}"
        table.add_row(
            str(number), *_spread(run["stalls"], MS, 2), first, *(f"{value:.1f}" for value in rest)
        )
    return table


def _shuffled(runs: Sequence[tuple[int, Figures]]) -> Table:
    table = Table(title="Shuffle buffers: ms that a save takes for the iterator's state")
    _columns(table, "rows of 4 KiB", "state, MiB", "stall", "least", "most", "writer")
    for rows, run in runs:
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
    spread = (statistics.median(values), min(values), max(values))
    return [f"{value * scale:.{digits}f}" for value in spread]


def _all(runs: Sequence[Figures], key: str) -> list[float]:
    return list(chain.from_iterable(run[key] for run in runs))


def _each(runs: Sequence[Figures], key: str, name: str) -> list[float]:
    return list(chain.from_iterable(run[key][name] for run in runs))


def _together(runs: Sequence[Figures]) -> list[float]:
    return [a + b for a, b in zip(_all(runs, "stalls"), _all(runs, "slower"), strict=True)]


def _over(hooks: Mapping[str, Sequence[float]], base: str) -> str:
    return f"{_between(hooks, 'keepfit', base):.0f}"


def _between(hooks: Mapping[str, Sequence[float]], kind: str, base: str) -> float:
    """Return the difference of the lower quartiles: other work of the machine only adds time."""
    ours, other = (statistics.quantiles(hooks[name], n=4)[0] for name in (kind, base))
    return (ours - other) * US


def _peak(runs: Sequence[Figures]) -> float:
    return float(statistics.median(run["peak_mib"] for run in runs))
