"""What a checkpoint costs the training of 288 MiB: in the hooks, and in the batches after it.

Training uses every core, so a writer's thread takes its CPU time from the batches that follow;
and they copy the variables whose old values the snapshot still holds. A short hook alone would
hide that, so the batches after a save are compared with the calm ones before the next.
"""

from __future__ import annotations

import resource
import statistics
import tempfile
from collections.abc import Sequence
from typing import Any

import keras

import models
from keepfit import Resumable
from keepfit.callbacks import events
from saves import pieces
from states import MAIN
from stopwatch import Stopwatch, collect_events, watched

EVERY = 24
AFTER = 16
"""Of the batches from one save to the next, those that the save may slow down."""

Figures = dict[str, Any]


def none(saves: int) -> Figures:
    """Training alone: the control, whose sham saves ought to cost nothing."""
    timed = _trained(keras.callbacks.Callback(), saves)
    return _figures(timed, [EVERY * (i + 1) - 1 for i in range(saves)])


def keras_own(saves: int) -> Figures:
    """BackupAndRestore, which saves within its hook, and does not wait for the disk."""
    kind = keras.callbacks.BackupAndRestore
    with tempfile.TemporaryDirectory() as folder, watched(kind, "_save_model") as calls:
        timed = _trained(kind(f"{folder}/backup", save_freq=EVERY), saves)
    at = [i for i, b in enumerate(timed.batches) if pieces.during(calls, b.span)]
    return _figures(timed, at)


def keepfit(saves: int) -> Figures:
    """Resumable, into a directory, with its parts timed as well."""
    log = collect_events()
    with tempfile.TemporaryDirectory() as store, pieces.timed() as calls:
        kept = Resumable(store=f"file://{store}", run="bench", save_every=f"{EVERY} batches")
        timed = _trained(kept, saves)
    at = [i for i, b in enumerate(timed.batches) if pieces.during(calls[pieces.OFFER], b.span)]
    hooks = [(b.ended - b.hooks, b.ended) for b in (timed.batches[i] for i in at)]
    saved = [event["time"] for event in log if event["event"] == events.SAVED]
    writes = [(call.began, call.ended) for call in calls[pieces.WRITE]][: len(at)]
    return {
        **_figures(timed, at),
        "written": len(saved) - 1,
        "durable": [time - began for time, (began, _) in zip(saved, hooks, strict=False)],
        "hook_parts": {n: pieces.seconds(calls[n], hooks) for n in pieces.TRAINING_THREAD},
        "write_parts": {n: pieces.seconds(calls[n], writes) for n in pieces.WRITER_THREAD},
        "write_cpu": {n: pieces.cpu_seconds(calls[n], writes) for n in pieces.WRITER_THREAD},
    }


def _trained(callback: keras.callbacks.Callback, saves: int) -> Stopwatch:
    """Every save is followed by as many batches, so the last of them is not a save."""
    model, batches = models.dense()
    timed = Stopwatch(callback)
    steps = (saves + 1) * EVERY - 1
    model.fit(batches, steps_per_epoch=steps, verbose=0, callbacks=[timed])
    return timed


def _figures(timed: Stopwatch, at: Sequence[int]) -> Figures:
    """What every kind of training has; `at` are the batches that saved."""
    batches = timed.batches
    calm = [b.training for i in at for b in batches[i + 1 + AFTER : i + EVERY]]
    usual = statistics.mean(calm)
    otherwise = statistics.median(b.hooks for i, b in enumerate(batches) if i not in at)
    return {
        "state_mib": MAIN.mib,
        "every": EVERY,
        "hooks": otherwise,
        "stalls": [batches[i].hooks - otherwise for i in at],
        "batch": usual,
        "next": [batches[i + 1].training - usual for i in at],
        "slower": [sum(b.training - usual for b in batches[i + 1 : i + 1 + AFTER]) for i in at],
        "first_batch": batches[0].hooks,
        "end": timed.at_end,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
