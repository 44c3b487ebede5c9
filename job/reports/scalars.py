"""Goodput as scalars for TensorBoard: one point an attempt, at its last step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from keepfit.callbacks.checkpoint.format.key_names import key_component
from keepfit.job.reports.data import Report

TAGS: Final = {
    "productive": "keepfit/goodput",
    "validation": "keepfit/validation",
    "startup": "keepfit/startup",
    "restore": "keepfit/restore",
    "saving": "keepfit/saves",
    "other": "keepfit/other",
    "retrained": "keepfit/trained_again",
    "unknown": "keepfit/unknown",
    "waiting": "keepfit/waiting",
}
"""The tags of the parts by their names."""


def write_scalars(report: Report, folder: Path) -> Path:
    """Write an event file below `folder`, and return its path.

    It has the same name each time, so that it replaces the file of an earlier call. TensorFlow is
    not imported: TensorBoard's package has the format.

    Raises:
        OSError: the file can't be written.
    """
    from tensorboard.summary.writer.record_writer import RecordWriter

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"events.out.tfevents.0.{key_component(report.run.run)}.keepfit"
    unfinished = path.with_name(f".{os.getpid()}.keepfit.tmp")
    try:
        with unfinished.open("wb") as file:
            writer = RecordWriter(file)
            for event in _events(report):
                writer.write(event.SerializeToString())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def _events(report: Report) -> Iterator[Any]:
    """Yield the events: the version of the format, then the shares of each attempt's time."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    attempts = report.goodput.attempts
    first = attempts[0].started.timestamp() if attempts else 0.0
    yield Event(wall_time=first, file_version="brain.Event:2")
    for attempt in attempts:
        shares = attempt.parts.shares()
        values = [
            Summary.Value(tag=TAGS[name], simple_value=share) for name, share in shares.items()
        ]
        yield Event(
            wall_time=attempt.started.timestamp() + attempt.seconds,
            step=attempt.last_step,
            summary=Summary(value=values),
        )
