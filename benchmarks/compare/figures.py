"""Compute the figures from the measurements: medians, ratios, and whether the goals are met."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

OURS = "keepfit"
Record = Mapping[str, Any]
"""Results or a part of them, as benchmarks/results.json stores them."""

Values = Mapping[str, float]
"""A figure of each method, by name."""


@dataclass(frozen=True)
class Question:
    """A question that is answered for all methods alike, for each state.

    Attributes:
        name: title in the tables and the picture.
        unit: of the displayed figures.
        goal: the goal for keepfit, in words.
        met: returns whether keepfit's figure meets the goal, given the best peer's; None if there
            is no goal.
        values: computes the figure of one method from its measurements.
        scale: factor from the figure to the displayed unit.
        log: whether the figures are so far apart that only a logarithmic scale shows them.
    """

    name: str
    unit: str
    goal: str
    met: Callable[[float, float], bool] | None
    values: Callable[[Sequence[Record]], float | None]
    scale: float = 1.0
    log: bool = False


def stall(runs: Sequence[Record]) -> float:
    """Return the seconds for which a save blocks the training thread."""
    return _median(save["stall"] for save in _saves(runs, "busy") or _saves(runs, "quiet"))


def cost(runs: Sequence[Record]) -> float | None:
    """Return the time of training with a save every 10 s, relative to the same fit without one."""
    ratios = [window["ratio"] for window in windows(runs)]
    return _median(ratios) if ratios else None


def durable(runs: Sequence[Record]) -> float | None:
    """Return the seconds until a save is durable, while training, by the faster way to S3."""
    return _by_best_way(_saves(runs, "busy"), "durable")


def durable_alone(runs: Sequence[Record]) -> float | None:
    """Return the seconds until a save is durable while training pauses."""
    return _by_best_way(_saves(runs, "quiet"), "durable")


def memory(runs: Sequence[Record]) -> float:
    """Return the increase of peak memory since before the first save, relative to the state."""
    increases = []
    for run in runs:
        part = run["busy"] if "busy" in run else run["quiet"]
        peak = max(save["peak"] for save in part["saved"])
        increases.append((peak - part["calm"][0]["peak"]) / run["bytes"])
    return _median(increases)


def sent(runs: Sequence[Record]) -> float | None:
    """Return the bytes sent over the network for a checkpoint, relative to the state."""
    return _median(save["sent"] / run["bytes"] for run in runs for save in run["quiet"]["saved"])


def cpu(runs: Sequence[Record]) -> float | None:
    """Return the CPU seconds for each GiB of state, by the better way to S3."""
    per_gib = [
        {**save, "cpu": save["cpu"] / run["bytes"] * 2**30}
        for run in runs
        for save in run["quiet"]["saved"]
    ]
    return _by_best_way(per_gib, "cpu")


def recovery(runs: Sequence[Record]) -> float:
    """Return the seconds from a process's start to its first batch, by the faster way from S3."""
    return min(_by_way(runs, lambda run: run["all"]).values())


def recovery_without_imports(runs: Sequence[Record]) -> float:
    """Return the seconds from the end of all imports to the first batch."""
    return min(_by_way(runs, lambda run: run["all"] - run["imports"]).values())


SAVING = (
    Question(
        "1 Training stall of a save",
        "ms",
        "≤ 10",
        lambda ours, _: ours <= 0.01,
        stall,
        scale=1e3,
        log=True,
    ),
    Question(
        "2 Training with a save every 10 s, relative to none",
        "",
        "≤ 1.03, below every peer",
        lambda ours, best: ours <= 1.03 and ours < best,
        cost,
    ),
    Question(
        "3 Time to durable in S3, while training",
        "s",
        "≤ 1/2 of the best peer",
        lambda ours, best: ours <= best / 2,
        durable,
    ),
    Question(
        "3 Time to durable in S3, training paused",
        "s",
        "≤ 1/2 of the best peer",
        lambda ours, best: ours <= best / 2,
        durable_alone,
    ),
    Question(
        "5 Additional peak memory, relative to the state",
        "",
        "≤ 1",
        lambda ours, _: ours <= 1.0,
        memory,
    ),
    Question("6 Bytes sent, relative to the state", "", "", None, sent),
    Question("6 CPU time per GiB", "s", "", None, cpu),
)
RECOVERY = (
    Question("4 Recovery to the first batch, total", "s", "", None, recovery),
    Question(
        "4 Recovery to the first batch, without imports",
        "s",
        "≤ 1/2 of the best peer",
        lambda ours, best: ours <= best / 2,
        recovery_without_imports,
    ),
)


@dataclass(frozen=True)
class Answer:
    """The answer to one question for one state: the figure of each method."""

    question: Question
    state: str
    values: Values

    @property
    def ours(self) -> float:
        """The figure of keepfit."""
        return self.values[OURS]

    @property
    def best(self) -> tuple[str, float] | None:
        """The peer with the lowest figure, and that figure; None if there are no peers."""
        peers = {name: value for name, value in self.values.items() if name != OURS}
        return min(peers.items(), key=lambda item: item[1]) if peers else None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None if there is no goal or no peer."""
        if self.question.met is None or self.best is None:
            return None
        return self.question.met(self.ours, self.best[1])


def answers(results: Record) -> list[Answer]:
    """Return the answers to all questions for which there are measurements."""
    questions = [(q, results["saving"]) for q in SAVING]
    questions += [(q, results["recovery"]) for q in RECOVERY]
    states = list(dict.fromkeys(run["state"] for run in results["saving"]))
    answered = []
    for question, runs in questions:
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


def windows(runs: Sequence[Record]) -> list[dict[str, float]]:
    """Compare each window with a save with the calm batches before and after it.

    Returns:
        ratio: time of a batch in the window, relative to the calm ones.
        net: the same without the time that the S3 server took from the same processors, which a
            real S3 does not: its CPU time, spread over all of them.
    """
    ratios = []
    for run in runs:
        part = run.get("busy", {"saved": [], "calm": []})
        for i, save in enumerate(part["saved"]):
            calm = statistics.mean(c["batch"] for c in part["calm"][i : i + 2])
            net = save["busy"] - (save["server"] or 0.0) / run["cores"] / part["window"]
            ratios.append({"ratio": save["busy"] / calm, "net": net / calm})
    return ratios


@dataclass(frozen=True)
class Slope:
    """A line through points: the cost at zero, and the cost of each additional unit."""

    base: float
    each: float


def slope(points: Iterable[tuple[float, float]]) -> Slope:
    """Fit a line by least squares of the relative errors, so that small values count as much."""
    x, y = np.array(list(points), dtype=float).T
    columns = np.stack([np.ones_like(x), x], axis=1) / y[:, None]
    base, each = np.linalg.lstsq(columns, np.ones_like(y), rcond=None)[0]
    return Slope(float(base), float(each))


def _saves(runs: Sequence[Record], kind: str) -> list[Record]:
    return list(chain.from_iterable(run[kind]["saved"] for run in runs if kind in run))


def _by_best_way(saves: Sequence[Record], key: str) -> float | None:
    return min(_by_way(saves, lambda save: save[key]).values(), default=None)


def _by_way(records: Sequence[Record], value: Callable[[Record], float]) -> dict[str, float]:
    ways: dict[str, list[float]] = {}
    for record in records:
        ways.setdefault(record["way"], []).append(value(record))
    return {way: _median(values) for way, values in ways.items()}


def _median(values: Iterable[float]) -> float:
    return float(statistics.median(values))
