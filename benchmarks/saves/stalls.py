"""Measure the cost of a save for a training of 288 MiB: in the hooks, and in the batches after it.

Training uses every core, so the writer's thread takes its CPU time from the batches that follow,
and these copy the variables whose old values the snapshot still needs. The time of the hook alone
would hide that, so the batches after a save are compared with the calm ones before the next.
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
"""Batches from one save to the next."""

AFTER = 16
"""How many of these batches a save may slow down."""

Figures = dict[str, Any]


def none(saves: int) -> Figures:
    """Measure training without saves: the control, whose pretended saves should cost nothing."""
    timed = _trained(keras.callbacks.Callback(), saves)
    return _figures(timed, [EVERY * (i + 1) - 1 for i in range(saves)])


def keras_own(saves: int) -> Figures:
    """Measure BackupAndRestore, which saves within its hook, and does not wait for the disk."""
    kind = keras.callbacks.BackupAndRestore
    with tempfile.TemporaryDirectory() as folder, watched(kind, "_save_model") as calls:
        timed = _trained(kind(f"{folder}/backup", save_freq=EVERY), saves)
    at = [i for i, b in enumerate(timed.batches) if pieces.during(calls, b.span)]
    return _figures(timed, at)


def keepfit(saves: int) -> Figures:
    """Measure Resumable, which saves to a directory; its parts are timed as well."""
    log = collect_events()
    with tempfile.TemporaryDirectory() as store, pieces.timed() as calls:
        resumable = Resumable(store=f"file://{store}", run="bench", save_every=f"{EVERY} batches")
        timed = _trained(resumable, saves)
    at = [i for i, b in enumerate(timed.batches) if pieces.during(calls[pieces.SUBMIT], b.span)]
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
    """Train with `saves` saves, each followed by as many batches; so the last batch has no save."""
    model, batches = models.dense()
    timed = Stopwatch(callback)
    steps = (saves + 1) * EVERY - 1
    model.fit(batches, steps_per_epoch=steps, verbose=0, callbacks=[timed])
    return timed


def _figures(timed: Stopwatch, at: Sequence[int]) -> Figures:
    """Return the figures of any kind of training; `at` are the indices of batches with a save."""
    batches = timed.batches
    calm = [b.training for i in at for b in batches[i + 1 + AFTER : i + EVERY]]
    calm_batch = statistics.mean(calm)
    calm_hooks = statistics.median(b.hooks for i, b in enumerate(batches) if i not in at)
    return {
        "state_mib": MAIN.mib,
        "every": EVERY,
        "hooks": calm_hooks,
        "stalls": [batches[i].hooks - calm_hooks for i in at],
        "batch": calm_batch,
        "next": [batches[i + 1].training - calm_batch for i in at],
        "slower": [sum(b.training - calm_batch for b in batches[i + 1 :][:AFTER]) for i in at],
        "first_batch": batches[0].hooks,
        "end": timed.at_end,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
