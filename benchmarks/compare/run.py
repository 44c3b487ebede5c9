"""Run all measurements, each in a process of its own, and all methods in turn."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import processes
from compare.server import Server
from states import MAIN, State

STATES = (
    State("12 MiB", 418),
    MAIN,
    State("1 GiB", 3862),
    State("288 MiB, 90 % frozen", 2508, layers=10, frozen=9),
)
LARGER = (State("2 GiB", 5461), State("4 GiB", 7723))
VARIABLES = (10, 100, 1000, 5000)
METHODS = (
    "keepfit",
    "BackupAndRestore",
    "ModelCheckpoint .keras",
    "ModelCheckpoint .weights.h5",
    "OrbaxCheckpoint",
    "CheckpointManager",
    "CheckpointManager, async",
)
"""The names in compare/methods.py, which is not imported here because it imports TensorFlow."""

WAYS = ("boto3", "s5cmd")
"""The names in compare/uploads.py."""

Report = Callable[[str], None]
"""Shows the current progress."""


@dataclass(frozen=True)
class Extent:
    """The amount of measurements.

    Attributes:
        larger: states of which only keepfit's saves are measured.
        variables: numbers of variables, of which only keepfit's saves are measured.
        rounds: number of rounds; each measures all methods in turn, in new processes.
        quiet, busy: number of saves in one process without and with training beside them, by each
            way to S3 in turn.
        calm, window: seconds of training before a save, and after it.
        kills: how often the job of the exactness question is killed.
    """

    methods: Sequence[str]
    states: Sequence[State]
    larger: Sequence[State]
    variables: Sequence[int]
    rounds: int
    quiet: int
    busy: int
    calm: float
    window: float
    kills: int


FULL = Extent(
    methods=METHODS,
    states=STATES,
    larger=LARGER,
    variables=VARIABLES,
    rounds=2,
    quiet=2,
    busy=1,
    calm=4.0,
    window=10.0,
    kills=20,
)
QUICK = Extent(
    methods=METHODS,
    states=(MAIN,),
    larger=(),
    variables=(),
    rounds=1,
    quiet=2,
    busy=0,
    calm=0.0,
    window=0.0,
    kills=0,
)


def empty_results() -> dict[str, Any]:
    """Return the results before anything is measured."""
    return {"saving": [], "recovery": [], "scale": [], "exactness": []}


def measure(extent: Extent, server: Server, report: Report, results: dict[str, Any]) -> None:
    """Add all measurements that `results` lacks; figures.py computes the figures from them."""
    for state in extent.states:
        for turn in range(extent.rounds):
            for method in extent.methods:
                key = {"method": method, "state": state.name, "round": turn}
                if _has(results["recovery"], key):
                    continue
                report(f"{state.name}, round {turn + 1} of {extent.rounds}: {method}")
                ways = WAYS if turn % 2 == 0 else WAYS[::-1]
                saving = _saving(extent, server, method, state, ways)
                recovery = _recovery(extent, server, method, state, ways[0])
                results["saving"].append({**key, **saving})
                results["recovery"].append({**key, **recovery})
                server.clear()
    _measure_scale(extent, server, report, results["scale"])
    for method in extent.methods if extent.kills else ():
        if not _has(results["exactness"], {"method": method}):
            report(f"killed {extent.kills} times: {method}")
            exactness = child("exactness", method=method, kills=extent.kills)
            results["exactness"].append({"method": method, **exactness})


def _measure_scale(
    extent: Extent, server: Server, report: Report, records: list[dict[str, Any]]
) -> None:
    sizes = [({"state": state.name, "mib": state.mib}, asdict(state), 0) for state in extent.larger]
    numbers = [({"variables": number}, None, number) for number in extent.variables]
    for key, state, number in (*sizes, *numbers):
        if not _has(records, key):
            report(f"{key.get('state') or f'{number} variables'}: keepfit")
            scale = child("scale", state=state, url=f"{server.url}/scale", variables=number)
            records.append({**key, **scale})
            server.clear()


def _has(records: Sequence[Mapping[str, Any]], key: Mapping[str, Any]) -> bool:
    return any(record.items() >= key.items() for record in records)


def _saving(
    extent: Extent, server: Server, method: str, state: State, ways: Sequence[str]
) -> dict[str, Any]:
    return child(
        "saving",
        method=method,
        state=asdict(state),
        url=f"{server.url}/run",
        quiet=extent.quiet,
        busy=extent.busy,
        seconds=[extent.calm, extent.window],
        ways=ways,
        server=server.pid,
    )


def _recovery(
    extent: Extent, server: Server, method: str, state: State, way: str
) -> dict[str, Any]:
    recovery = child(
        "recovery",
        method=method,
        state=asdict(state),
        url=f"{server.url}/run/{'busy' if extent.busy else 'quiet'}",
        way=way,
        saves=extent.busy or extent.quiet + 1,
        began=time.monotonic(),
    )
    return {"way": way, **recovery}


def child(what: str, **arguments: Any) -> dict[str, Any]:
    """Make one measurement in a new process."""
    record: dict[str, Any] = processes.measure(
        "compare.child", json.dumps({"what": what, **arguments})
    )
    return record
