"""From what was measured to what decides: medians, ratios, and whether the goals are met."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

OURS = "keepfit"
Found = Mapping[str, Any]
Values = Mapping[str, float]
"""A figure by method."""


@dataclass(frozen=True)
class Question:
    """What is asked of all methods alike, for each state.

    Attributes:
        scale, unit: of what is shown.
        goal: in words.
        met: whether our figure meets it, given the peers' best.
        log: whether the figures lie so far apart that only a logarithmic scale shows them.
    """

    name: str
    unit: str
    goal: str
    met: Callable[[float, float], bool] | None
    values: Callable[[Sequence[Found]], float | None]
    scale: float = 1.0
    log: bool = False


def stall(runs: Sequence[Found]) -> float:
    """Seconds that the training thread loses at once."""
    return _median(one["stall"] for one in _saves(runs, "busy") or _saves(runs, "quiet"))


def cost(runs: Sequence[Found]) -> float | None:
    """Of a training with a save every 10 s, relative to one without: windows of the same fit."""
    found = [window["ratio"] for window in windows(runs)]
    return _median(found) if found else None


def durable(runs: Sequence[Found]) -> float | None:
    """Seconds until it is safe, while training goes on; by the better way to S3."""
    return _by_best_way(_saves(runs, "busy"), "durable")


def durable_alone(runs: Sequence[Found]) -> float | None:
    """The same with nothing else to do."""
    return _by_best_way(_saves(runs, "quiet"), "durable")


def memory(runs: Sequence[Found]) -> float:
    """Bytes more than before the first of these saves, relative to the state."""
    more = []
    for run in runs:
        part = run["busy"] if "busy" in run else run["quiet"]
        most = max(one["peak"] for one in part["saved"])
        more.append((most - part["calm"][0]["peak"]) / run["bytes"])
    return _median(more)


def sent(runs: Sequence[Found]) -> float | None:
    """Bytes over the network for a checkpoint, relative to the state."""
    of = [one["sent"] / run["bytes"] for run in runs for one in run["quiet"]["saved"]]
    return _median(of)


def cpu(runs: Sequence[Found]) -> float | None:
    """CPU seconds for each GiB of state, by the better way to S3."""
    per_gib = [
        {**one, "cpu": one["cpu"] / run["bytes"] * 2**30}
        for run in runs
        for one in run["quiet"]["saved"]
    ]
    return _by_best_way(per_gib, "cpu")


def recovery(runs: Sequence[Found]) -> float:
    """Seconds from the start of a process to its first batch; by the better way from S3."""
    return min(_by_way(runs, lambda run: run["all"]).values())


def recovery_without_imports(runs: Sequence[Found]) -> float:
    """The same from when everything is imported."""
    return min(_by_way(runs, lambda run: run["all"] - run["imports"]).values())


SAVING = (
    Question(
        "1 Stall of training",
        "ms",
        "≤ 10",
        lambda ours, _: ours <= 0.01,
        stall,
        scale=1e3,
        log=True,
    ),
    Question(
        "2 Training with a save every 10 s, over none",
        "",
        "≤ 1.03, below every peer",
        lambda ours, best: ours <= 1.03 and ours < best,
        cost,
    ),
    Question(
        "3 Durable in S3 after, training",
        "s",
        "≤ 1/2 of the best peer",
        lambda ours, best: ours <= best / 2,
        durable,
    ),
    Question(
        "3 Durable in S3 after, alone",
        "s",
        "≤ 1/2 of the best peer",
        lambda ours, best: ours <= best / 2,
        durable_alone,
    ),
    Question("5 Peak memory more, in states", "", "≤ 1", lambda ours, _: ours <= 1.0, memory),
    Question("6 Bytes sent, in states", "", "", None, sent),
    Question("6 CPU for a GiB", "s", "", None, cpu),
)
RECOVERY = (
    Question("4 Recovery to the first batch, all", "s", "", None, recovery),
    Question(
        "4 Recovery, without imports",
        "s",
        "≤ 1/2 of the best peer",
        lambda ours, best: ours <= best / 2,
        recovery_without_imports,
    ),
)


@dataclass(frozen=True)
class Answer:
    """One question on one state: the figure of each method."""

    question: Question
    state: str
    values: Values

    @property
    def ours(self) -> float:
        return self.values[OURS]

    @property
    def best(self) -> tuple[str, float] | None:
        """The peer with the least, if there are peers."""
        peers = {name: value for name, value in self.values.items() if name != OURS}
        return min(peers.items(), key=lambda item: item[1]) if peers else None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met, if there is one."""
        if self.question.met is None or self.best is None:
            return None
        return self.question.met(self.ours, self.best[1])


def answers(found: Found) -> list[Answer]:
    """All that can be answered by what was measured."""
    given = [(q, found["saving"]) for q in SAVING] + [(q, found["recovery"]) for q in RECOVERY]
    states = list(dict.fromkeys(run["state"] for run in found["saving"]))
    answered = []
    for question, runs in given:
        for state in states:
            methods = dict.fromkeys(run["method"] for run in runs)
            values = {
                method: question.values(
                    [run for run in runs if (run["method"], run["state"]) == (method, state)]
                )
                for method in methods
            }
            known = {name: value for name, value in values.items() if value is not None}
            if OURS in known:
                answered.append(Answer(question, state, known))
    return answered


def windows(runs: Sequence[Found]) -> list[dict[str, float]]:
    """Each window with a save beside the calm ones before and after it.

    `net` leaves out the time that the S3 server took from the same processors, which a real S3
    does not: its CPU time, spread over all of them.
    """
    found = []
    for run in runs:
        part = run.get("busy", {"saved": [], "calm": []})
        for i, one in enumerate(part["saved"]):
            calm = statistics.mean(c["batch"] for c in part["calm"][i : i + 2])
            took = one["busy"] - (one["server"] or 0.0) / run["cores"] / part["window"]
            found.append({"ratio": one["busy"] / calm, "net": took / calm})
    return found


@dataclass(frozen=True)
class Slope:
    """A line through points: what nothing costs, and what each more does."""

    base: float
    each: float


def slope(points: Iterable[tuple[float, float]]) -> Slope:
    """By least squares of the relative errors, so that small ones count as much."""
    x, y = np.array(list(points), dtype=float).T
    columns = np.stack([np.ones_like(x), x], axis=1) / y[:, None]
    base, each = np.linalg.lstsq(columns, np.ones_like(y), rcond=None)[0]
    return Slope(float(base), float(each))


def _saves(runs: Sequence[Found], kind: str) -> list[Found]:
    return list(chain.from_iterable(run[kind]["saved"] for run in runs if kind in run))


def _by_best_way(saves: Sequence[Found], key: str) -> float | None:
    return min(_by_way(saves, lambda one: one[key]).values(), default=None)


def _by_way(found: Sequence[Found], value: Callable[[Found], float]) -> dict[str, float]:
    ways: dict[str, list[float]] = {}
    for one in found:
        ways.setdefault(one["way"], []).append(value(one))
    return {way: _median(values) for way, values in ways.items()}


def _median(values: Iterable[float]) -> float:
    return float(statistics.median(values))
