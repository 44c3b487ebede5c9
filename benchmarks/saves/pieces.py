"""The parts of a save, timed from outside by wrapping the functions that do them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from keepfit.callbacks.adapters.held_callbacks import HeldCallbacks
from keepfit.callbacks.checkpoint.format import shards
from keepfit.callbacks.engine.run import Run
from keepfit.callbacks.storage.file_operations import FileOperations
from keepfit.callbacks.training import capture, random_state, variables
from keepfit.callbacks.training.data import tracker as data_tracker
from stopwatch import Call, watched

Owner = tuple[Any, str]
Calls = Mapping[str, Sequence[Call]]
Span = tuple[float, float]

SUBMIT = "submit to the writer"
WRITE = "whole write"

TRAINING_THREAD: Mapping[str, Owner] = {
    "snapshot": (capture.TrainingCapture, "snapshot"),
    "· read the variables": (variables.VariableReader, "__call__"),
    "· capture the callbacks' state": (HeldCallbacks, "capture"),
    "· capture the random state": (random_state, "capture_random_state"),
    "position in the data": (data_tracker.DataTracker, "position"),
    "· capture the iterator's state": (data_tracker.DataTracker, "_capture_state"),
    SUBMIT: (Run, "submit"),
}
WRITER_THREAD: Mapping[str, Owner] = {
    WRITE: (Run, "_write"),
    "· encode": (capture, "encode"),
    "· serialise the iterator's state": (data_tracker.DataPosition, "_later_bytes"),
    "· SHA-256": (shards, "digest"),
    "· write files": (FileOperations, "write"),
    "· sync": (FileOperations, "sync"),
    "· remove files": (FileOperations, "remove"),
}


@contextmanager
def timed() -> Iterator[Calls]:
    """Record the calls of each part while the block runs."""
    with ExitStack() as stack:
        everything = {**TRAINING_THREAD, **WRITER_THREAD}
        yield {
            name: stack.enter_context(watched(owner, function))
            for name, (owner, function) in everything.items()
        }


def seconds(calls: Sequence[Call], spans: Sequence[Span]) -> list[float]:
    """Return the duration of the calls that began within each span."""
    return [sum(c.ended - c.began for c in calls if a <= c.began <= b) for a, b in spans]


def cpu_seconds(calls: Sequence[Call], spans: Sequence[Span]) -> list[float]:
    """Return the CPU time, of the calling thread, of the calls that began within each span."""
    return [sum(c.cpu for c in calls if a <= c.began <= b) for a, b in spans]


def during(calls: Sequence[Call], span: Span) -> bool:
    """Return True if a call began within the span."""
    return any(span[0] <= call.began <= span[1] for call in calls)
