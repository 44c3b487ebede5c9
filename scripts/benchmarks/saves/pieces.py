"""The parts of a checkpoint, timed from outside by wrapping the functions that do them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import callbacks.run
from callbacks import state
from callbacks.checkpoint import shards
from callbacks.storage.files import Files
from callbacks.training import data, randomness, recorder, variables
from stopwatch import Call, watched

Owner = tuple[Any, str]
Calls = Mapping[str, Sequence[Call]]
Span = tuple[float, float]

OFFER = "give it to the writer"
WRITE = "the whole write"

TRAINING_THREAD: Mapping[str, Owner] = {
    "record": (recorder.Recorder, "record"),
    "· read the variables": (variables.Capture, "__call__"),
    "· callbacks' state": (state, "capture"),
    "· random state": (randomness, "capture"),
    "· encode": (recorder, "encode"),
    "position in the data": (data.DataTracker, "position"),
    "· take the iterator's state": (data.DataTracker, "_take"),
    OFFER: (callbacks.run.Run, "offer"),
}
WRITER_THREAD: Mapping[str, Owner] = {
    WRITE: (callbacks.run.Run, "_write"),
    "· serialise the iterator's state": (data.DataPosition, "_later_bytes"),
    "· SHA-256": (shards, "digest"),
    "· write files": (Files, "write"),
    "· sync": (Files, "sync"),
    "· remove files": (Files, "remove"),
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
