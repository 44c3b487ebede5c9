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
- A new attempt knows about earlier ones only what is in the store (AttemptHistory in head.py).
- A lifetime that the machine did not end, as that of a script that has finished, loses nothing.

Useful time is the time that training would have needed for the same progress without any save. The
share is of the machines' whole lifetimes. The policy is evaluated every five minutes, or after a
tenth of the machine's age if that is longer: in this time its result changes by no more than a few
percent. A run evaluates it at each batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
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


class LifeEnd(StrEnum):
    """How a lifetime ends.

    Attributes:
        WARNED: a notice comes before the end.
        UNWARNED: it ends at any moment.
        COMPLETE: the script ends by itself; the last state is saved.
    """

    WARNED = "warned"
    UNWARNED = "unwarned"
    COMPLETE = "complete"


@dataclass(frozen=True)
class Life:
    """The lifetime of a machine, in seconds.

    Attributes:
        restart: the part of `seconds` in which nothing is trained: start-up, restore, other work.
        tail: the time at the end in which nothing is trained, if it is known; not for UNWARNED.
    """

    seconds: float
    restart: float
    end: LifeEnd
    tail: float | None = None


@dataclass(frozen=True)
class Replayed:
    """The replay of an attempt: its useful seconds, and its saves without the last one."""

    useful: float
    saves: int


def useful_share(lives: Sequence[float], policy: TimedPolicy, conditions: Conditions) -> float:
    """Return the useful share of the lifetimes `lives` (in seconds), from 0 to 1."""
    end = LifeEnd.WARNED if conditions.notices else LifeEnd.UNWARNED
    run = [Life(seconds, conditions.restart, end) for seconds in lives]
    attempts = replay_run(run, policy, conditions.save, conditions.stall)
    return math.fsum(attempt.useful for attempt in attempts) / sum(lives)


def replay_run(
    lives: Iterable[Life], policy: TimedPolicy, save: float, stall: float
) -> list[Replayed]:
    """Replay the attempts of one run, in their order.

    Args:
        save, stall: as in Conditions.
    """
    attempts, history = [], AttemptHistory()
    for life in lives:
        attempt, history = _replay_attempt(life, policy, save, stall, history)
        attempts.append(attempt)
        history = history.for_next_attempt()
    return attempts


def _replay_attempt(
    life: Life, policy: TimedPolicy, save: float, stall: float, history: AttemptHistory
) -> tuple[Replayed, AttemptHistory]:
    """Return the replay of an attempt, and its history."""
    span = life.seconds - life.restart
    limit = span - _idle_seconds(life, save)
    age = kept = 0.0
    saves = 0
    while True:
        measured = SaveMeasurements(stall, save, history.interruptions, history.seconds + age, age)
        wait = policy.wait(measured, first=not saves)
        if saves:
            wait = max(wait, save)
        until_next = max(EVALUATION_SECONDS, age * EVALUATION_SHARE)
        most = int(until_next // wait) if saves else 1
        count = min(max(1, most), math.floor((limit - age) / wait))
        if count < 1:
            break
        age += count * wait
        kept = age - (saves + count - 1) * stall
        saves += count
    if life.end is not LifeEnd.UNWARNED:
        last = _last_save(life, span, save)
        if last is not None:
            stalls = saves if life.tail is not None else saves + 1
            after = history.after_save(last, last=True)
            return Replayed(max(0.0, last - stalls * stall), saves), after
    after = history.after_save(age + save, last=False) if saves else history
    return Replayed(kept, saves), after


def _idle_seconds(life: Life, save: float) -> float:
    """Return the seconds before the end of a lifetime in which no further save is begun."""
    if life.end is LifeEnd.UNWARNED:
        return save
    return SPOT_NOTICE if life.tail is None else life.tail


def _last_save(life: Life, span: float, save: float) -> float | None:
    """Return the moment of the last save, in seconds of training; None if it fails."""
    if life.tail is not None:
        return span - life.tail if span > life.tail else None
    last = span - min(SPOT_NOTICE, final_save_reserve(save))
    return last if last > 0 and span - last >= save else None
