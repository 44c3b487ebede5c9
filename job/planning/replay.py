"""A run on machines that live as long as recorded ones did: what share of their time is useful.

The model is what keepfit does, and the policy is the one that a run uses:

- Each life is an attempt of one run, which goes on for all of them. It begins with the restart,
  in which nothing is trained: the container, the imports, the restored checkpoint.
- A save takes `save` seconds until it is durable, and training goes on meanwhile, which it slows
  down by `stall` seconds in all. The next one begins when the policy says so, and not before the
  last one is durable. The first one comes early.
- Without notices, a life ends at any moment. What was trained since the beginning of the last save
  that became durable is lost.
- With notices, there are two minutes' warning: a save at once, training until just enough time is
  left for a save (callbacks/preemption_policy.py), that save, and the end. What is left is idle.
- What a new attempt knows of earlier ones is what the store keeps (Past in manifest.py).

Useful is the time that training would have needed for the same progress without any save. The share
is of the whole time that the machines lived. The policy is asked again every five minutes of a life
or tenth of its age, in which its answer moves by no more than a few percent; a run asks at each
batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from keepfit.callbacks.checkpoint.manifest import AttemptHistory
from keepfit.callbacks.checkpoint.save_interval import SaveMeasurements
from keepfit.callbacks.preemption_policy import SPOT_NOTICE, final_save_reserve

ASKED_EVERY, ASKED_SHARE = 300.0, 0.1


class TimedPolicy(Protocol):
    """A schedule that goes by the clock."""

    def wait(self, known: SaveMeasurements, /, *, first: bool) -> float: ...


@dataclass(frozen=True)
class Conditions:
    """What saves and restarts cost, in seconds, and whether a life's end is announced.

    Attributes:
        save: from the beginning of a save until it is durable.
        stall: of training, that each save costs.
        restart: from the beginning of a machine's life to the first batch.
    """

    save: float
    stall: float
    restart: float
    notices: bool


def useful_share(lives: Sequence[float], policy: TimedPolicy, under: Conditions) -> float:
    """The useful share of the lives' time, from 0 to 1."""
    useful, history = 0.0, AttemptHistory()
    for life in lives:
        kept, history = _attempt(life - under.restart, policy, under, history)
        useful += kept
        history = history.of_next()
    return useful / sum(lives)


def _attempt(
    span: float, policy: TimedPolicy, under: Conditions, history: AttemptHistory
) -> tuple[float, AttemptHistory]:
    """What an attempt that can train for `span` seconds keeps, and what it tells the next one."""
    save, stall = under.save, under.stall
    limit = span - (SPOT_NOTICE if under.notices else save)
    age = kept = 0.0
    saves = 0
    while True:
        known = SaveMeasurements(stall, save, history.interruptions, history.seconds + age, age)
        wait = policy.wait(known, first=not saves)
        if saves:
            wait = max(wait, save)
        most = int(max(ASKED_EVERY, age * ASKED_SHARE) // wait) if saves else 1
        count = min(max(1, most), int((limit - age) // wait))
        if count < 1:
            break
        age += count * wait
        kept = age - (saves + count - 1) * stall
        saves += count
    leaving = span - min(SPOT_NOTICE, final_save_reserve(save))
    if under.notices and leaving > 0 and span - leaving >= save:
        return max(0.0, leaving - (saves + 1) * stall), history.after_save(leaving, last=True)
    return kept, history.after_save(age + save, last=False) if saves else history
