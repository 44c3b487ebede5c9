"""The comparison that `keepfit plan --run` prints: other intervals, notices and machines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from rich.bar import Bar
from rich.table import Table

from keepfit.callbacks.engine.save_interval import format_duration
from keepfit.callbacks.engine.save_policy import SaveAutomatically, SaveEverySeconds
from keepfit.job.planning.own_lives import OwnLife, OwnLives
from keepfit.job.planning.plan import AXIS_STEP, FIXED
from keepfit.job.planning.replay import (
    Conditions,
    Life,
    LifeEnd,
    Replayed,
    TimedPolicy,
    replay_run,
    useful_share,
)

BAR_WIDTH = 12

SHORTEST_INTERVAL = 0.001
"""Seconds between the saves of a run below which its interval is not replayed."""


@dataclass(frozen=True)
class Scenario:
    """The useful share of the machines' time under some conditions, from 0 to 1.

    Attributes:
        title: the heading of its column.
        own: with the interval that the runs had on average; None if it is not known.
        auto: with save_every="auto".
        fixed: with each fixed interval, by the interval's seconds.
    """

    title: str
    own: float | None
    auto: float
    fixed: dict[float, float]


@dataclass(frozen=True)
class RunPlan:
    """The comparison.

    Attributes:
        names: the names of the runs.
        left_out: number of attempts without a journal that can be read.
        others: number of lifetimes of other machines.
        interval: seconds between two saves of the runs, on average; None if not known.
        error: by how much the replay of `interval` may differ from the measured share.
        scenarios: by name, the first one being the machines and notices as they were.
    """

    names: tuple[str, ...]
    own: OwnLives
    left_out: int
    conditions: Conditions
    others: int
    interval: float | None
    error: float | None
    scenarios: dict[str, Scenario]


def make_run_plan(
    names: Sequence[str],
    own: OwnLives,
    others: Sequence[float],
    conditions: Conditions,
    left_out: int = 0,
) -> RunPlan:
    """Replay the attempts of the runs, and the lifetimes of other machines, with each policy.

    Args:
        others: lifetimes in seconds.
        conditions: `restart` is that of the other machines; `notices` has no effect.
    """
    interval = own.costs.interval if own.costs else None
    if interval is not None and interval < SHORTEST_INTERVAL:
        interval = None

    def replayed(policy: TimedPolicy, change: Callable[[OwnLife], Life]) -> list[Replayed]:
        runs = (
            replay_run(map(change, run), policy, conditions.save, conditions.stall)
            for run in own.runs
        )
        return [attempt for run in runs for attempt in run]

    def share(policy: TimedPolicy, change: Callable[[OwnLife], Life]) -> float:
        return math.fsum(one.useful for one in replayed(policy, change)) / own.seconds

    def on_own(title: str, change: Callable[[OwnLife], Life]) -> Scenario:
        return _scenario(title, interval, lambda policy: share(policy, change))

    def on_others(title: str, notices: bool) -> Scenario:
        given = Conditions(conditions.save, conditions.stall, conditions.restart, notices)
        return _scenario(title, interval, lambda policy: useful_share(others, policy, given))

    error = None
    if interval is not None:
        attempts = replayed(SaveEverySeconds(interval), _as_it_was)
        errors = (
            _error(life, attempt, interval, conditions)
            for life, attempt in zip(own.lives, attempts, strict=True)
        )
        error = math.fsum(errors) / own.seconds
    return RunPlan(
        names=tuple(names),
        own=own,
        left_out=left_out,
        conditions=conditions,
        others=len(others),
        interval=interval,
        error=error,
        scenarios={
            "as_it_was": on_own("as it was", _as_it_was),
            "with_notices": on_own("warned", OwnLife.with_notice),
            "without_notices": on_own("unwarned", OwnLife.without_notice),
            "others_with_notices": on_others("others: warned", notices=True),
            "others_without_notices": on_others("unwarned", notices=False),
        },
    )


def run_plan_document(plan: RunPlan) -> dict[str, Any]:
    """Return the fields of `plan --run --json`: times in seconds, shares from 0 to 1."""
    conditions = asdict(plan.conditions)
    del conditions["notices"]
    return {
        "runs": plan.names,
        "conditions": conditions,
        "lives": _lives_document(plan.own),
        "left_out": plan.left_out,
        "others": plan.others,
        "measured": plan.own.useful_share,
        "own_interval": plan.interval,
        "error": plan.error,
        "scenarios": {
            name: {
                "own": scenario.own,
                "auto": scenario.auto,
                "fixed": [{"interval": e, "share": s} for e, s in scenario.fixed.items()],
            }
            for name, scenario in plan.scenarios.items()
        },
    }


def describe_runs(plan: RunPlan) -> str:
    """Return a description of what was replayed."""
    found, given = _lives_document(plan.own), plan.conditions
    mean, middle = format_duration(found["mean"]), format_duration(found["median"])
    lines = [
        f"{', '.join(plan.names)}: {found['count']} attempts, {mean} on average, half of them up "
        f"to {middle};",
        f"{found['warned']} ended with a notice, {found['unwarned']} without one, "
        f"{found['complete']} lost nothing at the end",
    ]
    if found["lower_bounds"]:
        lines.append(f"{found['lower_bounds']} without a known end: counted up to the last record")
    if plan.left_out:
        lines.append(f"left out, as they have no journal that can be read: {plan.left_out}")
    lines.append(
        f"a save takes {format_duration(given.save)} and costs training "
        f"{format_duration(given.stall)}; start-up takes {format_duration(given.restart)}"
    )
    lines.append(f"{plan.own.useful_share:.2%} of the attempts' time was useful\n")
    return "\n".join(lines)


def run_plan_table(plan: RunPlan) -> Table:
    """Return a table with a row for each interval and a column for each scenario."""
    rows = [("own", [one.own for one in plan.scenarios.values()])] if plan.interval else []
    rows.append(("auto", [one.auto for one in plan.scenarios.values()]))
    rows += [
        (format_duration(every), [one.fixed[every] for one in plan.scenarios.values()])
        for every in FIXED
    ]
    first = [shares[0] or 0.0 for _, shares in rows]
    low = min(100 - AXIS_STEP, int(min(first) * 100 / AXIS_STEP) * AXIS_STEP)
    table = Table(box=None, pad_edge=False)
    table.add_column("save every", justify="right", no_wrap=True)
    for scenario in plan.scenarios.values():
        table.add_column(scenario.title, justify="right", no_wrap=True)
    table.add_column(f"{low} %{'100 %':>{BAR_WIDTH - len(f'{low} %')}}", width=BAR_WIDTH)
    for name, shares in rows:
        bar = Bar(100 - low, 0, (shares[0] or 0.0) * 100 - low, width=BAR_WIDTH)
        table.add_row(name, *(f"{share:.2%}" for share in shares if share is not None), bar)
    return table


def describe_columns(plan: RunPlan) -> str:
    """Return what the columns and the first row are."""
    lines = [
        "\nas it was: the runs' own machines and notices; warned: all of them with a notice of",
        "2 min; unwarned: none of them with a notice; others: the lifetimes of "
        f"{plan.others} other\nmachines.",
    ]
    if plan.interval and plan.error is not None:
        lines.append(
            f"own: every {format_duration(plan.interval)}, as the runs saved on average; the "
            f"replay of this differs from the\nmeasured {plan.own.useful_share:.2%} by at most "
            f"{100 * plan.error:.2f} points."
        )
    return "\n".join(lines)


def _as_it_was(own: OwnLife) -> Life:
    return own.life


def _error(own: OwnLife, replayed: Replayed, interval: float, conditions: Conditions) -> float:
    """Return by how many useful seconds the replay of an attempt may differ from its journal.

    The replay saves at other moments: an attempt that ended without a notice loses up to an
    interval and a save there, and has lost what its journal says. The other part is the stalls.
    """
    if own.life.end is not LifeEnd.UNWARNED:
        return abs(own.stalls - replayed.saves * conditions.stall)
    lost = max(own.lost, max(interval, conditions.save) + conditions.save)
    return lost + abs(own.stalls - max(0, replayed.saves - 1) * conditions.stall)


def _scenario(
    title: str, interval: float | None, share: Callable[[TimedPolicy], float]
) -> Scenario:
    return Scenario(
        title=title,
        own=None if interval is None else share(SaveEverySeconds(interval)),
        auto=share(SaveAutomatically()),
        fixed={every: share(SaveEverySeconds(every)) for every in FIXED},
    )


def _lives_document(own: OwnLives) -> dict[str, Any]:
    lives = own.lives
    seconds = [one.life.seconds for one in lives]
    ends = [one.life.end for one in lives]
    return {
        "count": len(lives),
        "mean": fmean(seconds),
        "median": median(seconds),
        **{end.value: ends.count(end) for end in LifeEnd},
        "lower_bounds": sum(one.lower_bound for one in lives),
    }
