"""Journals as attempts would write them, from a few numbers.

>>> first = journal(steps=100, kill=True)            # killed after its last save
>>> second = journal(attempt=2, started=60, resumed=75, steps=200)
>>> write(store, first, second)
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from keepfit.callbacks.checkpoint.format.keys import journal_key
from keepfit.callbacks.journal.document import (
    Elapsed,
    Ending,
    Epoch,
    Fit,
    Journal,
    Machine,
    Mark,
    NoticeEntry,
    Previous,
    Save,
)
from keepfit.callbacks.journal.terms import Reason
from keepfit.callbacks.storage.base import Store

RUN = "run"
BEGAN = datetime(2026, 11, 28, 12, tzinfo=UTC)
"""Start of the first attempt's process."""

BATCHES = 50
"""Batches of an epoch."""


def moment(seconds: float) -> datetime:
    """Return the time of day, given in seconds after the start of the first attempt."""
    return BEGAN + timedelta(seconds=seconds)


def journal(
    attempt: int = 1,
    *,
    run: str = RUN,
    started: float = 0.0,
    resumed: int | None = None,
    steps: int = 100,
    save_every: int = 25,
    step_seconds: float = 0.1,
    startup: float = 3.0,
    restore: float = 0.0,
    validation: float = 0.0,
    stall: float = 0.0,
    kill: bool = False,
    reason: Reason = Reason.FINISHED,
    price: float | None = None,
    on_demand: float | None = None,
    previous: Previous | None = None,
    **fields: Any,
) -> Journal:
    """Return the journal of an attempt with one fit, in epochs of BATCHES.

    Args:
        started: seconds from the start of the first attempt to that of this one.
        resumed: the step of the checkpoint that it continues.
        steps: batches done in the run at its end.
        save_every: steps between two saves; the last step is saved also, unless `kill` is set.
        step_seconds: duration of a step. `validation` is that of each epoch, `stall` of each save.
        kill: it ends without a record after its last save; `steps` is that of its last save then.
        reason: why it ended otherwise.
        price, on_demand: US dollars per hour.
        fields: other fields of the journal.
    """
    spent = {"startup": startup, "restore": restore}

    def mark(step: int) -> dict[str, Any]:
        return {"step": step, "elapsed": Elapsed(**spent)}

    first = resumed or 0
    fits = [Fit(fit=0, resumed=resumed is not None, **mark(first))]
    saves: list[Save] = []
    epochs: list[Epoch] = []
    for step in range(first + 1, steps + 1):
        spent["training"] = spent.get("training", 0.0) + step_seconds
        epoch = (step - 1) // BATCHES
        if step % save_every == 0 or (step == steps and not kill):
            position = {"fit": 0, "epoch": epoch, "batch": (step - 1) % BATCHES + 1}
            last = step == steps and not kill
            saves.append(
                Save(**mark(step), **position, seconds=0.5, size=1000, stall=stall, last=last)
            )
            spent["saving"] = spent.get("saving", 0.0) + stall
        if step % BATCHES == 0:
            spent["validation"] = spent.get("validation", 0.0) + validation
            metrics = {"loss": 1 / step, "val_loss": 2 / step}
            epochs.append(Epoch(fit=0, epoch=epoch, metrics=metrics, **mark(step)))
    final = mark(steps)
    return Journal(
        **{
            "run": run,
            "attempt": attempt,
            "process_started": moment(started),
            "written": Mark(**final),
            "machine": Machine(hourly_price=price, on_demand_price=on_demand),
            "versions": {"keepfit": "0.2.0", "keras": "3.15.0", "tensorflow": "2.21.0"},
            "imported": startup / 3,
            "claimed": startup / 2,
            "first_batch": startup + restore + step_seconds,
            "fits": tuple(fits),
            "saves": tuple(saves),
            "save_count": len(saves),
            "save_bytes": sum(save.size for save in saves),
            "save_seconds": sum(save.seconds for save in saves),
            "epochs": tuple(epochs),
            "epoch_count": len(epochs),
            "notices": (NoticeEntry(at=startup, source="SIGTERM"),)
            if reason is Reason.PREEMPTED and not kill
            else (),
            "end": None if kill else Ending(**final, reason=reason, exit_code=0),
            "previous": previous,
            **fields,
        }
    )


def killed_and_resumed() -> list[Journal]:
    """Return the journals of a run that was killed, preempted, and then finished."""
    watched = Previous(
        attempt=1, ended=moment(20), reason=Reason.KILLED, detail="killed by SIGKILL"
    )
    prices = {"price": 0.36, "on_demand": 1.2}
    return [
        journal(1, steps=110, kill=True, **prices),
        journal(2, started=24, resumed=100, steps=180, restore=1, stall=0.05,
                reason=Reason.PREEMPTED, previous=watched, **prices),
        journal(3, started=60, resumed=180, steps=300, restore=1, validation=0.5, **prices),
    ]  # fmt: skip


def write(store: Store, *journals: Journal) -> None:
    """Put journals into a store."""
    for one in journals:
        store.put(journal_key(one.run, one.attempt), [one.to_bytes()])
