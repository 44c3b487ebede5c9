"""Run every measurement in a process of its own, several times in turn, and print the figures."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from rich.console import Console

import processes
from machine import machine
from saves import report

VARIABLES = (10, 100, 1000, 3000)
SHUFFLED_ROWS = (0, 256, 1000, 10_000)


def saves(quick: bool = False, keep: Path | None = None) -> None:
    """Measure the cost of checkpoints; there is no pass or fail.

    Args:
        quick: fewer repetitions; takes less than two minutes.
        keep: file to which the raw figures are written, as JSON.
    """
    console = Console(width=max(Console().width, 110))
    rounds, number = (1, 2) if quick else (3, 5)
    figures: dict[str, Any] = defaultdict(list)
    with console.status("measuring") as status:
        for turn in range(rounds):
            for kind in ("none", "keepfit", "keras"):
                status.update(f"training 288 MiB, round {turn + 1} of {rounds}: {kind}")
                figures[kind].append(measure(kind, number))
        status.update("hooks of a tiny model")
        figures["hooks"] = measure("hooks", 500, 5 if quick else 15)
        for number in VARIABLES[: 2 if quick else None]:
            status.update(f"{number} variables")
            figures["many"].append((number, measure("many", number)))
        for rows in SHUFFLED_ROWS[-1 if quick else 0 :]:
            status.update(f"{rows} rows in a shuffle buffer")
            figures["shuffled"].append((rows, measure("shuffled", rows)))
    for table in report.tables(figures):
        console.print(table)
    console.print(machine(), soft_wrap=True)
    if keep:
        keep.write_text(json.dumps(figures))


def measure(name: str, *numbers: int) -> Any:
    """Make one measurement in a new process."""
    return processes.measure("saves.child", name, *map(str, numbers))
