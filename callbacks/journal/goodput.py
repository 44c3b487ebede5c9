"""The goodput of a run: the share of its machines' time that became training which was kept.

The terms are those of ml-goodput-measurement (github.com/AI-Hypercomputer/ml-goodput-measurement):
goodput is productive time; badput is the rest, by cause.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keepfit.callbacks.journal.document import Journal


@dataclass(frozen=True)
class Parts:
    """Seconds of an attempt or of a run, by what became of them. They add up to `total`.

    Attributes:
        productive: training whose steps were kept.
        validation: validation that was kept.
        startup, restore, saving, other: see Activity.
        retrained: training and validation whose steps were lost, and were done again.
        unknown: from the last record of a killed attempt to its end, or, if that is not known, to
            the start of the next one: training that was lost, or waiting for a machine.
        waiting: between the end of an attempt and the start of the next one.
    """

    productive: float = 0.0
    validation: float = 0.0
    startup: float = 0.0
    restore: float = 0.0
    saving: float = 0.0
    other: float = 0.0
    retrained: float = 0.0
    unknown: float = 0.0
    waiting: float = 0.0


@dataclass(frozen=True)
class Costs:
    """US dollars of a run.

    Attributes:
        paid: for the machines of the attempts whose price is known; None if no price is known.
        on_demand: for the same time on demand; None if no on-demand price is known.
        unpriced: number of attempts without a price.
    """

    paid: float | None
    on_demand: float | None
    unpriced: int


@dataclass(frozen=True)
class AttemptGoodput:
    """What became of the time of one attempt.

    Attributes:
        parts: its time; `waiting` is that before the attempt.
        kept_step: the step up to which its training was kept.
    """

    attempt: int
    parts: Parts
    kept_step: int


@dataclass(frozen=True)
class Goodput:
    """What became of the time of a run.

    Attributes:
        parts: the sum over all attempts.
    """

    attempts: tuple[AttemptGoodput, ...]
    parts: Parts
    costs: Costs


def measure(journals: Sequence[Journal]) -> Goodput:
    """Return the goodput of a run from the journals of its attempts, in their order."""
    raise NotImplementedError(journals)
