"""The comparison that `keepfit plan` prints: the useful time with each interval, and with auto."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from rich.bar import Bar
from rich.table import Table

from keepfit.callbacks.engine.save_interval import (
    FIRST_SAVE,
    MATURE_AGE,
    SaveMeasurements,
    format_duration,
    interval_seconds,
)
from keepfit.callbacks.engine.save_policy import SaveAutomatically, SaveEverySeconds
from keepfit.job.planning.replay import Conditions, useful_share

FIXED = (10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 900.0, 1800.0, 3600.0)
"""The fixed intervals, in seconds, that a user might choose instead of auto."""

BAR_WIDTH, AXIS_STEP = 40, 5
"""The width of a bar in characters; the axis begins at a multiple of this many percent."""


@dataclass(frozen=True)
class Plan:
    """The useful share of the machines' time with each interval, under some conditions.

    Attributes:
        lives: the number of recorded lifetimes; their mean and median are in seconds.
        auto: the useful share, from 0 to 1, with save_every="auto".
        fixed: the useful share with each fixed interval, by the interval's seconds.
        interval_when_new, interval_after_an_hour: seconds between two saves that auto chooses for a
            new run, on a new machine and on one that is an hour old.
    """

    conditions: Conditions
    lives: int
    mean_life: float
    median_life: float
    auto: float
    fixed: dict[float, float]
    interval_when_new: float
    interval_after_an_hour: float

    @property
    def best_fixed(self) -> float:
        """The best fixed interval, in seconds."""
        return max(self.fixed, key=self.fixed.__getitem__)


def make_plan(lives: Sequence[float], conditions: Conditions) -> Plan:
    """Replay the lifetimes with each policy, and return the results."""

    def auto_interval(age: float) -> float:
        return interval_seconds(
            SaveMeasurements(cost=conditions.stall, durable=conditions.save, age=age, lived=age)
        )

    return Plan(
        conditions=conditions,
        lives=len(lives),
        mean_life=fmean(lives),
        median_life=median(lives),
        auto=useful_share(lives, SaveAutomatically(), conditions),
        fixed={every: useful_share(lives, SaveEverySeconds(every), conditions) for every in FIXED},
        interval_when_new=auto_interval(FIRST_SAVE),
        interval_after_an_hour=auto_interval(MATURE_AGE),
    )


def plan_document(plan: Plan) -> dict[str, Any]:
    """Return the fields of `plan --json`: times in seconds, shares from 0 to 1."""
    return {
        "conditions": asdict(plan.conditions),
        "lives": {"count": plan.lives, "mean": plan.mean_life, "median": plan.median_life},
        "auto": {
            "share": plan.auto,
            "first_save": FIRST_SAVE,
            "interval": plan.interval_when_new,
            "interval_after_an_hour": plan.interval_after_an_hour,
        },
        "fixed": [{"interval": every, "share": share} for every, share in plan.fixed.items()],
        "best_fixed": plan.best_fixed,
    }


def describe_conditions(plan: Plan) -> str:
    """Return a description of what was replayed."""
    given = plan.conditions
    return (
        f"{plan.lives} lifetimes of machines, {format_duration(plan.mean_life)} on average, "
        f"half of them under {format_duration(plan.median_life)};\n"
        f"a save takes {format_duration(given.save)} and costs training "
        f"{format_duration(given.stall)}, a restart takes {format_duration(given.restart)}, "
        f"notices are {'used' if given.notices else 'not used'}\n"
    )


def plan_table(plan: Plan) -> Table:
    """Return a table with a bar for each interval."""
    shares = {"auto": plan.auto} | {
        format_duration(every): share for every, share in plan.fixed.items()
    }
    low = min(100 - AXIS_STEP, int(min(shares.values()) * 100 / AXIS_STEP) * AXIS_STEP)
    table = Table(box=None, pad_edge=False)
    table.add_column("save every", justify="right", no_wrap=True)
    table.add_column("useful time", justify="right", no_wrap=True)
    axis = f"{low} %{'100 %':>{BAR_WIDTH - len(f'{low} %')}}"
    table.add_column(axis, width=BAR_WIDTH, no_wrap=True)
    for name, share in shares.items():
        bar = Bar(100 - low, 0, share * 100 - low, width=BAR_WIDTH)
        table.add_row(name, f"{share:.2%}", bar)
    return table


def describe_result(plan: Plan) -> str:
    """Return a description of what auto does, compared with the best fixed interval."""
    difference = 100 * (plan.auto - plan.fixed[plan.best_fixed])
    compared = f"{abs(difference):.2f} points {'above' if difference >= 0 else 'below'} it"
    return (
        f"\nauto saves {format_duration(FIRST_SAVE)} after the start, then every "
        f"{format_duration(plan.interval_when_new)}, and every "
        f"{format_duration(plan.interval_after_an_hour)} when a machine\n"
        f"is an hour old; a run's own interruptions change that. The best fixed interval, known "
        f"only\nafterwards, is {format_duration(plan.best_fixed)}: auto is {compared}."
    )
