"""The comparison that `keepfit plan` prints: intervals, what each is worth, and what auto does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from rich.bar import Bar
from rich.table import Table

from keepfit.callbacks.checkpoint.save_interval import (
    FIRST_SAVE,
    MATURE_AGE,
    SaveMeasurements,
    format_duration,
    interval_seconds,
)
from keepfit.callbacks.checkpoint.save_policy import SaveAutomatically, SaveEverySeconds
from keepfit.job.planning.replay import Conditions, useful_share

FIXED = (10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 900.0, 1800.0, 3600.0)
"""The intervals, in seconds, that a user might pick instead."""

WIDTH, STEP = 40, 5
"""Of a bar, in characters; and the multiple of percents at which the axis begins."""


@dataclass(frozen=True)
class Plan:
    """What intervals are worth under some conditions.

    Attributes:
        auto: the useful share of the machines' time, from 0 to 1, with save_every="auto".
        fixed: the same with fixed intervals, by their seconds.
        young, grown: seconds between two saves that auto chooses for a new run on a new machine,
            and on one that is an hour old.
    """

    conditions: Conditions
    lives: int
    mean_life: float
    median_life: float
    auto: float
    fixed: dict[float, float]
    young: float
    grown: float

    @property
    def best(self) -> float:
        """Seconds of the best fixed interval."""
        return max(self.fixed, key=self.fixed.__getitem__)


def make_plan(lives: Sequence[float], under: Conditions) -> Plan:
    """Replay the lives with each policy."""
    young = SaveMeasurements(cost=under.stall, durable=under.save, age=FIRST_SAVE, lived=FIRST_SAVE)
    grown = SaveMeasurements(cost=under.stall, durable=under.save, age=MATURE_AGE, lived=MATURE_AGE)
    return Plan(
        conditions=under,
        lives=len(lives),
        mean_life=fmean(lives),
        median_life=median(lives),
        auto=useful_share(lives, SaveAutomatically(), under),
        fixed={every: useful_share(lives, SaveEverySeconds(every), under) for every in FIXED},
        young=interval_seconds(young),
        grown=interval_seconds(grown),
    )


def plan_document(plan: Plan) -> dict[str, Any]:
    """The fields of `plan --json`: times in seconds, shares from 0 to 1."""
    return {
        "conditions": asdict(plan.conditions),
        "lives": {"count": plan.lives, "mean": plan.mean_life, "median": plan.median_life},
        "auto": {
            "share": plan.auto,
            "first_save": FIRST_SAVE,
            "interval": plan.young,
            "interval_after_an_hour": plan.grown,
        },
        "fixed": [{"interval": every, "share": share} for every, share in plan.fixed.items()],
        "best_fixed": plan.best,
    }


def describe_conditions(plan: Plan) -> str:
    """What was replayed."""
    given = plan.conditions
    return (
        f"{plan.lives} lives of machines, {format_duration(plan.mean_life)} on average, half of them under "
        f"{format_duration(plan.median_life)};\na save takes {format_duration(given.save)} and costs training "
        f"{format_duration(given.stall)}, a restart takes {format_duration(given.restart)}, "
        f"notices are {'used' if given.notices else 'not used'}\n"
    )


def plan_table(plan: Plan) -> Table:
    """A bar for each interval."""
    shares = (plan.auto, *plan.fixed.values())
    low = min(100 - STEP, int(min(shares) * 100 / STEP) * STEP)
    table = Table(box=None, pad_edge=False)
    table.add_column("save every", justify="right", no_wrap=True)
    table.add_column("useful time", justify="right", no_wrap=True)
    table.add_column(f"{low} %{'100 %':>{WIDTH - len(f'{low} %')}}", width=WIDTH, no_wrap=True)
    best = {"auto": plan.auto} | {
        format_duration(every): share for every, share in plan.fixed.items()
    }
    for name, share in best.items():
        bar = Bar(100 - low, 0, share * 100 - low, width=WIDTH)
        table.add_row(name, f"{share:.2%}", bar)
    return table


def describe_result(plan: Plan) -> str:
    """What auto does, and what the best of the others is."""
    ahead = 100 * (plan.auto - plan.fixed[plan.best])
    compared = f"{abs(ahead):.2f} points {'above' if ahead >= 0 else 'below'} it"
    return (
        f"\nauto saves {format_duration(FIRST_SAVE)} after the start, then every {format_duration(plan.young)}, "
        f"and every {format_duration(plan.grown)} when a machine\nis an hour old; a run's own "
        f"interruptions move that. The best fixed interval, known only\nafterwards, is "
        f"{format_duration(plan.best)}: auto is {compared}."
    )
