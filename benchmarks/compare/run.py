"""Runs all measurements, each in a process of its own, and all methods in turn."""

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
"""Of compare/methods.py, which imports TensorFlow."""

WAYS = ("boto3", "s5cmd")
"""Of compare/uploads.py."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Extent:
    """How much is measured.

    Attributes:
        rounds: of all methods in turn, each in new processes.
        quiet, busy: saves of each kind in one process, by each way to S3 in turn.
        calm, window: seconds of training before a save, and between two.
        kills: how often the job of the last question is killed.
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


def nothing() -> dict[str, Any]:
    """Before anything is measured."""
    return {"saving": [], "recovery": [], "scale": [], "exactness": []}


def measure(extent: Extent, server: Server, say: Say, found: dict[str, Any]) -> None:
    """Add all figures that are not there yet; figures.py makes ratios of them."""
    for state in extent.states:
        for turn in range(extent.rounds):
            for method in extent.methods:
                of = {"method": method, "state": state.name, "round": turn}
                if _has(found["recovery"], of):
                    continue
                say(f"{state.name}, round {turn + 1} of {extent.rounds}: {method}")
                ways = WAYS if turn % 2 == 0 else WAYS[::-1]
                saved = _saving(extent, server, method, state, ways)
                back = _recovery(extent, server, method, state, ways[0])
                found["saving"].append({**of, **saved})
                found["recovery"].append({**of, **back})
                server.clear()
    _measure_scale(extent, server, say, found["scale"])
    for method in extent.methods if extent.kills else ():
        if not _has(found["exactness"], {"method": method}):
            say(f"killed {extent.kills} times: {method}")
            ended = child("exactness", method=method, kills=extent.kills)
            found["exactness"].append({"method": method, **ended})


def _measure_scale(extent: Extent, server: Server, say: Say, found: list[dict[str, Any]]) -> None:
    sizes = [({"state": state.name, "mib": state.mib}, asdict(state), 0) for state in extent.larger]
    numbers = [({"variables": number}, None, number) for number in extent.variables]
    for of, state, number in (*sizes, *numbers):
        if not _has(found, of):
            say(f"{of.get('state') or f'{number} variables'}: keepfit")
            more = child("scale", state=state, url=f"{server.url}/scale", variables=number)
            found.append({**of, **more})
            server.clear()


def _has(found: Sequence[Mapping[str, Any]], of: Mapping[str, Any]) -> bool:
    return any(one.items() >= of.items() for one in found)


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
    found = child(
        "recovery",
        method=method,
        state=asdict(state),
        url=f"{server.url}/run/{'busy' if extent.busy else 'quiet'}",
        way=way,
        saves=extent.busy or extent.quiet + 1,
        began=time.monotonic(),
    )
    return {"way": way, **found}


def child(what: str, **arguments: Any) -> dict[str, Any]:
    """One measurement in a new process."""
    found: dict[str, Any] = processes.measure(
        "compare.child", json.dumps({"what": what, **arguments})
    )
    return found
