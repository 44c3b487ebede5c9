"""Measure the cost of hooks in small trainings: without a save, and saves of many variables."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from typing import Any

import keras

import models
from keepfit import Resumable
from keepfit.callbacks.training.data.position import IteratorState
from saves import pieces
from stopwatch import Stopwatch, collect_events

Figures = dict[str, Any]
NEVER = "1000000000 batches"
WARM_UP = 50
EPOCHS, SAVES_AN_EPOCH, APART = 3, 4, 400


class Idle(keras.callbacks.Callback):
    """A callback that does nothing, but makes Keras call callbacks on the training thread."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        pass


def hooks(batches: int, rounds: int) -> Figures:
    """Return the seconds per batch of one model's training, in turn with each kind of callbacks.

    The beginning and the end of a fit cost the same however long it is, so they cancel out in the
    difference of a long and a short one.
    """
    collect_events()
    model, data = models.tiny()

    def fit(callbacks: list[keras.callbacks.Callback], steps: int) -> float:
        began = time.perf_counter()
        model.fit(data, steps_per_epoch=steps, verbose=0, callbacks=callbacks)
        return time.perf_counter() - began

    with tempfile.TemporaryDirectory() as store:

        def resumable(run: str, held: int) -> Resumable:
            idle = [Idle() for _ in range(held)]
            return Resumable(idle, store=f"file://{store}", run=run, save_every=NEVER)

        kinds: dict[str, Callable[[str], list[keras.callbacks.Callback]]] = {
            "none": lambda _: [],
            "idle": lambda _: [Idle()],
            "ten_more": lambda _: [Idle() for _ in range(11)],
            "keepfit": lambda run: [resumable(run, 0)],
            "ten_held": lambda run: [resumable(run, 10)],
        }
        fit([], WARM_UP)
        figures: Figures = {kind: [] for kind in kinds}
        for turn in range(rounds):
            for kind, make in kinds.items():
                short = fit(make(f"{kind}-short{turn}"), WARM_UP)
                long = fit(make(f"{kind}-long{turn}"), WARM_UP + batches)
                figures[kind].append((long - short) / batches)
    return figures


def many(variables: int) -> Figures:
    """Measure the saves of a training with many variables, far enough apart for the writer."""
    collect_events()
    model, data = models.many(variables)
    steps = SAVES_AN_EPOCH * APART + APART // 2
    with tempfile.TemporaryDirectory() as store, pieces.timed() as calls:
        timed = Stopwatch(
            Resumable(store=f"file://{store}", run="bench", save_every=f"{APART} batches")
        )
        model.fit(data, epochs=EPOCHS, steps_per_epoch=steps, verbose=0, callbacks=[timed])
    saving = [b for b in timed.batches if pieces.during(calls[pieces.SUBMIT], b.span)]
    return {
        "stalls": [batch.hooks for batch in saving],
        "first_batch": timed.batches[0].hooks,
        "new_epoch": [timed.batches[i * steps].hooks for i in range(1, EPOCHS)],
        "durable": [call.ended - call.began for call in calls[pieces.WRITE]],
        "cpu": [call.cpu for call in calls[pieces.WRITE]],
    }


def shuffled(rows: int) -> Figures:
    """Measure the cost of an iterator's state with a shuffle buffer of `rows` rows of 4 KiB.

    DataTracker captures the state on the training thread, whenever its budget allows.
    """
    iterator = iter(models.shuffled(rows))
    next(iterator)
    taken, written, size = [], [], 0
    for _ in range(5):
        began = time.perf_counter()
        state = IteratorState.of(iterator)
        taken.append(time.perf_counter() - began)
        assert state is not None
        size = len(state.content)
        written.append(time.perf_counter() - began - taken[-1])
    return {"taken": taken, "written": written, "mib": size / 2**20}
