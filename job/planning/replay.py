"""Replay a run on machines with recorded lifetimes: what share of their time is useful.

The model is what keepfit does, and the policy is the one that a run uses:

- Each lifetime is an attempt of one run, which continues over all of them. It begins with the
  restart, in which nothing is trained: the container, the imports, the restored checkpoint.
- A save takes `save` seconds until it is durable. Training continues meanwhile, and is slowed down
  by `stall` seconds in all. The next save begins when the policy requires it, and not before the
  last one is durable. The first save is early.
- Without notices, a lifetime ends at any moment. The work since the beginning of the last save that
  became durable is lost.
- With notices, there is a warning of two minutes: a save at once, training until just enough time
  is left for a save (callbacks/engine/preemption.py), that save, and the exit. The rest is idle.
- A new attempt knows about earlier ones only what is in the store (AttemptHistory in manifest.py).

Useful time is the time that training would have needed for the same progress without any save. The
share is of the machines' whole lifetimes. The policy is evaluated every five minutes, or after a
tenth of the machine's age if that is longer: in this time its result changes by no more than a few
percent. A run evaluates it at each batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from keepfit.callbacks.checkpoint.format.head import AttemptHistory
from keepfit.callbacks.engine.preemption import SPOT_NOTICE, final_save_reserve
from keepfit.callbacks.engine.save_interval import SaveMeasurements

EVALUATION_SECONDS, EVALUATION_SHARE = 300.0, 0.1
"""The policy is evaluated again after so many seconds or such a share of the age, if longer."""


class TimedPolicy(Protocol):
    """A save policy that depends on time only."""

    def wait(self, measured: SaveMeasurements, /, *, first: bool) -> float: ...


@dataclass(frozen=True)
class Conditions:
    """The cost of saves and restarts, in seconds, and whether notices are used.

    Attributes:
        save: from the beginning of a save until it is durable.
        stall: training time that each save costs.
        restart: from the start of a machine to the first batch.
        notices: the end of a machine is announced.
    """

    save: float
    stall: float
    restart: float
    notices: bool


def useful_share(lives: Sequence[float], policy: TimedPolicy, conditions: Conditions) -> float:
    """Return the useful share of the lifetimes `lives` (in seconds), from 0 to 1."""
    useful, history = 0.0, AttemptHistory()
    for life in lives:
        kept, history = _replay_attempt(life - conditions.restart, policy, conditions, history)
        useful += kept
        history = history.for_next_attempt()
    return useful / sum(lives)


def _replay_attempt(
    span: float, policy: TimedPolicy, conditions: Conditions, history: AttemptHistory
) -> tuple[float, AttemptHistory]:
    """Return the useful seconds of an attempt that trains for up to `span`, and its history."""
    save, stall = conditions.save, conditions.stall
    limit = span - (SPOT_NOTICE if conditions.notices else save)
    age = kept = 0.0
    saves = 0
    while True:
        measured = SaveMeasurements(stall, save, history.interruptions, history.seconds + age, age)
        wait = policy.wait(measured, first=not saves)
        if saves:
            wait = max(wait, save)
        until_next = max(EVALUATION_SECONDS, age * EVALUATION_SHARE)
        most = int(until_next // wait) if saves else 1
        count = min(max(1, most), int((limit - age) // wait))
        if count < 1:
            break
        age += count * wait
        kept = age - (saves + count - 1) * stall
        saves += count
    final_save = span - min(SPOT_NOTICE, final_save_reserve(save))
    if conditions.notices and final_save > 0 and span - final_save >= save:
        return max(0.0, final_save - (saves + 1) * stall), history.after_save(final_save, last=True)
    return kept, history.after_save(age + save, last=False) if saves else history
