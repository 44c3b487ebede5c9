"""Compare keepfit at another commit with the working tree: both in turn, on the same machine."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import processes
from compare import figures
from compare.server import ROOT, Server, serving
from machine import machine
from states import MAIN

SIDES = ("before", "after")
STORES = ("file", "S3")
QUIET, BUSY = 4, 1
SECONDS = (2.0, 3.0)
"""Number of saves of one process, without and with training beside them; see compare/child.py."""

Record = Mapping[str, Any]


def _cpu(runs: Sequence[Record]) -> float:
    return float(statistics.median(run["process_cpu"] for run in runs))


CPU = figures.Question("CPU time of the process", "s", "", None, _cpu)
FIGURES: Mapping[str, Sequence[figures.Question]] = {
    "saving": tuple(q for q in figures.SAVING if q.values is not figures.cost),
    "recovery": (*figures.RECOVERY, CPU),
}
"""The cost of saves beside training takes longer to measure than the rest together.

CPU time tells least of other work on the machine, but a saving process trains as many batches as
fit into a time, so the CPU time of the whole process compares nothing.
"""


def against(
    commit: Annotated[str, typer.Argument(help="The commit to compare with.")],
    pairs: Annotated[int, typer.Option(min=1, help="Number of processes of each side.")] = 5,
    stores: Annotated[str, typer.Option(help="file, S3, or both.")] = ",".join(STORES),
    keep: Annotated[
        Path | None, typer.Option(help="File to which the raw figures are written, as JSON.")
    ] = None,
) -> None:
    """Measure saves and recovery of another commit and of the working tree, in turn.

    Each side is measured by its own benchmarks, with the packages of this environment.
    """
    chosen = named_stores(stores)
    console = Console(width=max(Console().width, 130))
    records: dict[str, list[Record]] = {}
    with tempfile.TemporaryDirectory() as folder, serving(None) as server:
        roots = dict(zip(SIDES, (checkout(ROOT, commit, Path(folder)), ROOT), strict=True))
        for turn in range(pairs):
            for store in chosen:
                for side in SIDES if turn % 2 == 0 else SIDES[::-1]:
                    console.print(f"pair {turn + 1} of {pairs}: {store}, {side}")
                    with _empty(store, server) as url:
                        for what in FIGURES:
                            record = _measure(what, roots[side], url)
                            records.setdefault(f"{what} {store} {side}", []).append(record)
            if keep:
                keep.write_text(json.dumps(records))
    for what in FIGURES:
        console.print(table(what, chosen, records))
    console.print(f"{machine()}; {server.name}", soft_wrap=True)


@dataclass(frozen=True)
class Comparison:
    """One figure of both sides, in one kind of store.

    Attributes:
        before, after: the displayed figures, one of each process, in the order of the pairs.
    """

    figure: str
    store: str
    unit: str
    before: Sequence[float]
    after: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        """The ratio of each pair whose figure before is not zero."""
        pairs = zip(self.before, self.after, strict=True)
        return [after / before for before, after in pairs if before]


def comparisons(
    what: str, stores: Sequence[str], records: Mapping[str, Sequence[Record]]
) -> Iterator[Comparison]:
    """Yield each figure of a kind of measurement, unless it is zero in all processes.

    Args:
        what: a key of FIGURES.
        stores: names in STORES.
        records: the raw figures, by "<what> <store> <side>".
    """
    for question in FIGURES[what]:
        for store in stores:
            before, after = (_values(question, records[f"{what} {store} {side}"]) for side in SIDES)
            if any(before) or any(after):  # nothing is sent to a folder
                name = question.name.replace(" in S3", "")
                yield Comparison(name, store, question.unit, before, after)


def table(what: str, stores: Sequence[str], records: Mapping[str, Sequence[Record]]) -> Table:
    """Return the medians of both sides, and the ratio of each pair: median, least and most."""
    result = Table(title=f"{what}, {MAIN.name}: medians of processes", title_justify="left")
    for name in ("figure", "store", "unit", *SIDES, "after/before", "least", "most", "pairs"):
        result.add_column(name, justify="left" if name in ("figure", "store") else "right")
    for one in comparisons(what, stores, records):
        medians = [f"{statistics.median(values):.4g}" for values in (one.before, one.after)]
        ratios = one.ratios
        spread = [f"{f(ratios):.2f}" if ratios else "" for f in (statistics.median, min, max)]
        result.add_row(one.figure, one.store, one.unit, *medians, *spread, str(len(ratios)))
    return result


def _values(question: figures.Question, records: Sequence[Record]) -> list[float]:
    """Return the displayed figure of each process."""
    found = [question.values([record]) for record in records]
    return [value * question.scale for value in found if value is not None]


def named_stores(names: str) -> list[str]:
    """Return the names, separated by commas; an unknown one is refused."""
    chosen = names.split(",")
    if unknown := sorted(set(chosen) - set(STORES)):
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(STORES)}")
    return chosen


def checkout(repository: Path, commit: str, folder: Path) -> Path:
    """Extract a commit's files into a folder; the repository itself does not change."""
    archive = subprocess.run(
        ["git", "archive", commit], cwd=repository, check=True, stdout=subprocess.PIPE
    )
    subprocess.run(["tar", "-x"], cwd=folder, input=archive.stdout, check=True)
    return folder


@contextmanager
def _empty(store: str, server: Server) -> Iterator[str]:
    """Yield the URL of an empty store, whose objects are deleted afterwards."""
    if store == "file":
        with tempfile.TemporaryDirectory() as folder:
            yield f"file://{folder}"
        return
    try:
        yield server.url
    finally:
        server.clear()


def _measure(what: str, root: Path, url: str) -> Record:
    common = {"what": what, "method": "keepfit", "state": asdict(MAIN)}
    specific: dict[str, Any] = {
        "saving": {
            "url": f"{url}/run",
            "quiet": QUIET,
            "busy": BUSY,
            "seconds": SECONDS,
            "ways": [],
            "server": None,
        },
        "recovery": {
            "url": f"{url}/run/busy",
            "way": "",
            "saves": BUSY,
            "began": time.monotonic(),
        },
    }[what]
    cpu = _children_cpu()
    record = processes.measure("compare.child", json.dumps(common | specific), root=root)
    return {"way": "keepfit", **record, "process_cpu": _children_cpu() - cpu}


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
