"""Generated journals: any that validate, and those of simulated runs whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from keepfit.callbacks.journal.document import (
    Elapsed,
    Ending,
    Epoch,
    Fit,
    Journal,
    Machine,
    Mark,
    Previous,
    Save,
)
from keepfit.callbacks.journal.terms import Reason
from tests.journal.factory import RUN, moment

_SECONDS = st.floats(0, 10**6) | st.sampled_from((0.0, 1e-9, 1e10))
_STEPS = st.integers(0, 300) | st.just(10**15)
_ELAPSED = st.builds(Elapsed, **dict.fromkeys(Elapsed.model_fields, _SECONDS))
_PRICES = st.none() | st.floats(0, 10**4)
_TEXTS = st.sampled_from(("a machine", "\x1b[31m[/red]", "two\nlines"))
_DAYS = st.floats(-(10**6), 10**6).map(moment) | st.sampled_from(
    (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
)


def _marks(kind: type[Mark], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Generate entries in the order of their moments, and otherwise without any sense."""
    entry = st.builds(kind, step=_STEPS, elapsed=_ELAPSED, **fields)
    return st.lists(entry, max_size=3).map(lambda entries: tuple(sorted(entries, key=_moment_of)))


def _moment_of(mark: Mark) -> float:
    return mark.at


_PLACE = {"fit": st.integers(0, 2), "epoch": st.integers(0, 3)}
_PREVIOUS = st.builds(
    Previous, attempt=st.integers(1, 9), ended=st.none() | _DAYS, reason=st.none()
)


@st.composite
def any_journals(draw: st.DrawFn) -> list[Journal]:
    """Generate journals that validate, in the order of attempts, of which some are missing."""
    attempts = draw(st.lists(st.integers(1, 9), max_size=5, unique=True).map(sorted))
    return [draw(_any_journal(attempt)) for attempt in attempts]


def _any_journal(attempt: int) -> st.SearchStrategy[Journal]:
    size = st.integers(0, 9)
    return st.builds(
        Journal,
        run=st.just(RUN),
        attempt=st.just(attempt),
        process_started=_DAYS,
        written=st.builds(Mark, step=_STEPS, elapsed=_ELAPSED),
        machine=st.builds(Machine, host=_TEXTS, hourly_price=_PRICES, on_demand_price=_PRICES),
        fits=_marks(Fit, fit=st.integers(0, 2), resumed=st.booleans()),
        saves=_marks(Save, **_PLACE, batch=size, seconds=_SECONDS, size=size, stall=_SECONDS),
        epochs=_marks(Epoch, **_PLACE),
        end=st.none()
        | st.builds(
            Ending,
            step=_STEPS,
            elapsed=_ELAPSED,
            reason=st.sampled_from(Reason),
            exit_code=st.none(),
            detail=_TEXTS,
        ),
        previous=st.none() | _PREVIOUS,
    )


@dataclass(frozen=True)
class Simulated:
    """A simulated run: its journals, and what became of its time in truth.

    Attributes:
        kept, lost: seconds of training that were kept, and those that were lost or done again.
        total: seconds from the start of the first attempt to the end of the last one.
    """

    journals: list[Journal]
    kept: float
    lost: float
    total: float


@dataclass
class _Attempt:
    """An attempt that trains step by step, and what its journal has recorded."""

    number: int
    started: float
    step: int
    save_every: int

    def __post_init__(self) -> None:
        self.spent = {"startup": 2.0, "restore": float(self.step > 0)}
        self.fits = (Fit(fit=0, resumed=self.step > 0, **self.mark()),)
        self.steps: dict[int, float] = {}
        self.saves: list[Save] = []
        self.written = Mark(**self.mark())
        self.end: Ending | None = None

    def mark(self) -> dict[str, Any]:
        return {"step": self.step, "elapsed": Elapsed(**self.spent)}

    @property
    def ended(self) -> float:
        return self.started + sum(self.spent.values())

    def train(self, seconds: float) -> None:
        self.step += 1
        self.steps[self.step] = seconds
        self.spent["training"] = self.spent.get("training", 0.0) + seconds
        if self.step % self.save_every == 0:
            self.save()

    def save(self) -> None:
        self.saves.append(Save(fit=0, epoch=0, batch=self.step, seconds=1, size=1, **self.mark()))
        self.spent["saving"] = self.spent.get("saving", 0.0) + 0.25
        self.written = Mark(**self.mark())

    def finish(self, reason: Reason) -> None:
        if reason is Reason.KILLED:
            return
        if reason is not Reason.FAILED:
            self.save()
        self.end = Ending(reason=reason, **self.mark())
        self.written = Mark(**self.mark())

    def journal(self, previous: Previous | None) -> Journal:
        kept = list(self.saves)
        while len(kept) > 5:
            kept = kept[-1::-2][::-1]
        return Journal(
            run=RUN,
            attempt=self.number,
            process_started=moment(self.started),
            written=self.written,
            fits=self.fits,
            saves=tuple(kept),
            save_count=len(self.saves),
            end=self.end,
            previous=previous,
        )


_ENDINGS = (Reason.KILLED, Reason.KILLED, Reason.PREEMPTED, Reason.FAILED)


@st.composite
def simulated_runs(draw: st.DrawFn) -> Simulated:
    """Generate a run of up to 40 steps that is killed, preempted or fails, and then finishes.

    Steps take different times, each attempt saves at its own interval, the journal of a killed one
    ends with its last save, an attempt may resume at an older checkpoint, also of an older attempt,
    and the end of a killed one is known or not.
    """
    goal = draw(st.integers(1, 40))
    counted: dict[int, float] = {}  # seconds of each step in the attempt whose step is kept
    checkpoints = [0]
    journals: list[Journal] = []
    clock = spent = 0.0
    previous = None
    for number in range(1, 6):
        back = draw(st.integers(0, 2))
        checkpoints = checkpoints[: max(1, len(checkpoints) - back)]  # the newer ones are damaged
        first = checkpoints[-1]
        attempt = _Attempt(number, clock, first, draw(st.integers(1, 12)))
        stop = goal if number == 5 else draw(st.integers(first, goal))
        while attempt.step < stop:
            attempt.train(draw(st.sampled_from((0.5, 1.0, 2.5))))
        finished = number == 5 or (stop == goal and draw(st.booleans()))
        ending = Reason.FINISHED if finished else draw(st.sampled_from(_ENDINGS))
        attempt.finish(ending)
        journals.append(attempt.journal(previous))
        spent += sum(attempt.steps.values())
        counted = {step: time for step, time in counted.items() if step <= first} | attempt.steps
        if finished:
            break
        checkpoints += [save.step for save in attempt.saves]
        clock = attempt.ended + draw(st.sampled_from((0.0, 7.0)))
        known = ending is Reason.KILLED and draw(st.booleans())
        previous = Previous(attempt=number, ended=moment(attempt.ended) if known else None)
    kept = sum(counted.values())
    return Simulated(journals, kept, spent - kept, attempt.ended)
