"""Reports for the tests of the page, without a store."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeVar

from keepfit.callbacks.checkpoint.read.inspection import Summary
from keepfit.callbacks.journal.document import (
    Elapsed,
    Ending,
    Epoch,
    Fit,
    Journal,
    Machine,
    Mark,
    NoticeEntry,
    Save,
)
from keepfit.callbacks.journal.read import RunJournals
from keepfit.callbacks.journal.terms import PriceClass, Reason
from keepfit.job.reports.data import Report, StoredCheckpoint, report_of
from tests.journal.factory import moment

_Mark = TypeVar("_Mark", bound=Mark)

HOSTILE = '</script><img src=x onerror="document.title=1">\u202egnp.exe&amp;'
"""A name that would run a program if it were not escaped, and reverses the text after it."""

MACHINE = Machine(
    instance_type="g6.xlarge",
    region="eu-central-1",
    zone="eu-central-1b",
    price_class=PriceClass.SPOT,
    hourly_price=0.382,
    on_demand_price=1.006,
    job="0b6e3f1c-7d0b-4f5e-9a53-2f0c8de1a4b7",
    log_group="/aws/batch/job",
    log_stream="keepfit/default/0b6e3f1c7d0b4f5e",
)


def attempt(
    number: int,
    *,
    started: float,
    first: int,
    last: int,
    reason: Reason | None = Reason.PREEMPTED,
    batches: int = 100,
    save_every: int = 250,
    step_seconds: float = 0.25,
    machine: Machine = MACHINE,
    names: tuple[str, str] = ("loss", "accuracy"),
    run: str = "mnist",
) -> Journal:
    """Return the journal of an attempt that trains from step `first` to `last`.

    Args:
        reason: why it ended; None if it was killed, or runs. The notice comes 5 s before its end.
    """
    spent = {"startup": 11.0, "restore": 1.5 if first else 0.0}

    def mark(step: int) -> dict[str, object]:
        return {"step": step, "elapsed": Elapsed(**spent)}

    fit = Fit(fit=0, resumed=first > 0, **mark(first))
    saves, epochs = [], []
    stops = sorted({*range(first - first % save_every, last + 1, save_every),
                    *range(first - first % batches, last + 1, batches)})  # fmt: skip
    for step in (stop for stop in stops if stop > first):
        spent["training"] = (step - first) * step_seconds
        place = {"fit": 0, "epoch": (step - 1) // batches}
        if step % batches == 0:
            spent["validation"] = spent.get("validation", 0.0) + batches * step_seconds * 0.12
            epochs.append(Epoch(**mark(step), **place, metrics=_metrics(step, names)))
        if step % save_every == 0:
            spent["saving"] = spent.get("saving", 0.0) + 0.02
            saves.append(
                Save(**mark(step), **place, batch=(step - 1) % batches + 1, size=301_989_888,
                     seconds=1.4 + 0.4 * math.sin(step), stall=0.02 + 0.01 * math.cos(step / 7))
            )  # fmt: skip
    spent["training"] = (last - first) * step_seconds
    final = mark(last)
    end = (
        Ending(**final, reason=reason, exit_code=0 if reason is Reason.FINISHED else 75)
        if reason
        else None
    )
    at = Elapsed(**spent).total
    return Journal(
        run=run,
        attempt=number,
        process_started=moment(started),
        written=Mark(**final)
        if end or not saves
        else Mark(step=saves[-1].step, elapsed=saves[-1].elapsed),
        machine=machine,
        versions={"keepfit": "0.2.0", "keras": "3.15.0", "tensorflow": "2.21.0"},
        fits=(fit,),
        saves=tuple(saves[-500:]),
        save_count=len(saves),
        epochs=tuple(epochs[-1000:]),
        epoch_count=len(epochs),
        notices=(NoticeEntry(at=max(0.0, at - 5), source="spot", deadline=at + 100),)
        if reason is Reason.PREEMPTED
        else (),
        end=end,
    )  # fmt: skip


def _metrics(step: int, names: tuple[str, str]) -> dict[str, float]:
    """Return metrics as a training has them: falling with some noise."""
    loss = 0.05 + 2.2 * math.exp(-step / 1500) + 0.03 * math.sin(step * 1.7)
    accuracy = 1 - loss / 2.6
    first, second = names
    return {
        first: loss,
        second: accuracy,
        f"val_{first}": loss * 1.08 + 0.04 + 0.02 * math.cos(step * 2.3),
        f"val_{second}": accuracy - 0.02,
        "learning_rate": 0.001 * 0.999 ** (step / 100),
    }


def sample(run: str = "mnist") -> Report:
    """Return the report of a run with each kind of end, and with lost epochs."""
    journals = (
        attempt(1, started=0, first=0, last=1740, reason=None, run=run),
        attempt(2, started=560, first=1500, last=3460, run=run),
        attempt(3, started=1180, first=3250, last=3610, reason=Reason.FAILED, run=run),
        attempt(4, started=2500, first=3500, last=5250, reason=None, run=run),
        attempt(5, started=3060, first=5250, last=8000, reason=Reason.FINISHED, run=run),
    )
    failed = journals[2].end
    assert failed
    journals = (
        *journals[:2],
        journals[2].model_copy(
            update={
                "end": failed.model_copy(
                    update={"exit_code": 1, "detail": "ValueError: labels out of range"}
                )
            }
        ),
        *journals[3:],
    )  # fmt: skip
    return report(journals, run=run)


def report(journals: tuple[Journal, ...], *, run: str = "mnist", state: str = "finished") -> Report:
    """Return the report of journals, with two checkpoints."""
    last = journals[-1].written.step if journals else 0
    summary = Summary(run, state, attempts=len(journals), step=last, fit=1, epoch=80, batch=100)
    found = report_of("s3://training/runs", summary, RunJournals(journals))
    checkpoints = tuple(
        StoredCheckpoint(
            key=f"{run}/{step}", attempt=len(journals), fit=1, epoch=80, batch=100, step=step,
            created=moment(2500), size=301_989_888, final=step == last,
        )
        for step in (last, max(0, last - 250))
    )  # fmt: skip
    return replace(found, checkpoints=checkpoints if journals else ())


def large(attempts: int = 500, epochs: int = 200) -> Report:
    """Return the report of a run with many attempts and `attempts * epochs` epochs."""
    last, journals = epochs * 10, []
    each = attempt(1, started=0, first=0, last=last, batches=10, save_every=100, reason=None)
    for index in range(attempts):
        reason = Reason.FINISHED if index == attempts - 1 else (Reason.PREEMPTED, None)[index % 2]
        at = index * (last - 100)
        end = (
            Ending(step=at + last, elapsed=each.written.elapsed, reason=reason) if reason else None
        )
        journals.append(
            each.model_copy(
                update={
                    "attempt": index + 1,
                    "process_started": moment(index * 600),
                    "written": each.written.model_copy(update={"step": at + last}),
                    "fits": (Fit(fit=0, step=at, elapsed=Elapsed(startup=11.0), resumed=at > 0),),
                    "saves": _later(each.saves, at),
                    "epochs": _later(each.epochs, at),
                    "end": end,
                }
            )
        )
    return report(tuple(journals))


def _later(marks: tuple[_Mark, ...], steps: int) -> tuple[_Mark, ...]:
    """Return marks at later steps."""
    return tuple(mark.model_copy(update={"step": mark.step + steps}) for mark in marks)
