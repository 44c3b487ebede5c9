"""The parts of a checkpoint, timed from outside by wrapping the functions that do them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from keepfit.callbacks.adapters import held_callbacks
from keepfit.callbacks.checkpoint import shards
from keepfit.callbacks.run import Run
from keepfit.callbacks.storage.file_operations import FileOperations
from keepfit.callbacks.training import data_tracker, random_state, recorder, variables
from stopwatch import Call, watched

Owner = tuple[Any, str]
Calls = Mapping[str, Sequence[Call]]
Span = tuple[float, float]

OFFER = "give it to the writer"
WRITE = "the whole write"

TRAINING_THREAD: Mapping[str, Owner] = {
    "record": (recorder.TrainingRecorder, "record"),
    "· read the variables": (variables.VariableReader, "__call__"),
    "· callbacks' state": (held_callbacks, "capture"),
    "· random state": (random_state, "capture"),
    "· encode": (recorder, "encode"),
    "position in the data": (data_tracker.DataTracker, "position"),
    "· take the iterator's state": (data_tracker.DataTracker, "_take"),
    OFFER: (Run, "offer"),
}
WRITER_THREAD: Mapping[str, Owner] = {
    WRITE: (Run, "_write"),
    "· serialise the iterator's state": (data_tracker.DataPosition, "_later_bytes"),
    "· SHA-256": (shards, "digest"),
    "· write files": (FileOperations, "write"),
    "· sync": (FileOperations, "sync"),
    "· remove files": (FileOperations, "remove"),
}


@contextmanager
def timed() -> Iterator[Calls]:
    """The calls of each part while the block runs."""
    with ExitStack() as stack:
        everything = {**TRAINING_THREAD, **WRITER_THREAD}
        yield {
            name: stack.enter_context(watched(owner, function))
            for name, (owner, function) in everything.items()
        }


def seconds(calls: Sequence[Call], spans: Sequence[Span]) -> list[float]:
    """How long the calls took that began within each span."""
    return [sum(c.ended - c.began for c in calls if a <= c.began <= b) for a, b in spans]


def cpu_seconds(calls: Sequence[Call], spans: Sequence[Span]) -> list[float]:
    """The same in CPU time of the thread that called."""
    return [sum(c.cpu for c in calls if a <= c.began <= b) for a, b in spans]


def during(calls: Sequence[Call], span: Span) -> bool:
    """Whether there was a call within the span."""
    return any(span[0] <= call.began <= span[1] for call in calls)
