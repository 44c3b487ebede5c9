"""Keras' RemoteMonitor, without a cost to training, and without duplicate reports."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import keras

from keepfit.callbacks.files.report_sender import RecordEpoch, ReportSender, post_report


class RemoteMonitor(keras.callbacks.RemoteMonitor):
    """A callback that streams events to a server, as Keras' RemoteMonitor does.

    In `fit`, a thread sends them, one after another, so that a slow or dead server costs training
    nothing; each report is retried for a minute, and then given up with a warning. Inside
    Resumable, no epoch is reported twice, however often the run is resumed: an epoch is recorded as
    reported before it is sent, so a kill between the two loses its report.

    Args:
        root, path, field, headers, send_as_json: the arguments of Keras' RemoteMonitor.
    """

    keepfit_handles: ClassVar = ("_record_once", "_sender", "_in_fit")

    def __init__(self, *args: Any, **arguments: Any) -> None:
        super().__init__(*args, **arguments)
        self._record_once: RecordEpoch | None = None
        self._sender = ReportSender(self.root, partial(post_report, self), self.path)
        self._in_fit = False

    def report_once(self, record_once: RecordEpoch) -> None:
        """Ask `record_once`, on the thread, before each epoch is reported."""
        self._record_once = record_once

    def defer_sends(self) -> None:
        self._sender.defer()

    def finish_sends(self, seconds: float | None) -> None:
        self._sender.finish(seconds)

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        self._in_fit = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self._in_fit:
            self._sender.send(epoch, logs, self._record_once)
        else:  # called by hand
            super().on_epoch_end(epoch, logs)

    def on_train_end(self, logs: Any = None) -> None:
        super().on_train_end(logs)
        self._in_fit = False
        self._sender.end_of_training()
