"""The adapter of RemoteMonitor, which reports an epoch again when it is trained again.

No private names of Keras are used.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import keras

from keepfit.callbacks.adapters.base import ReportingCallback, State
from keepfit.callbacks.checkpoint.format.state_schema import Fields, check_fields
from keepfit.callbacks.files.report_sender import Post, RecordEpoch, ReportSender, post_report


class RemoteMonitorAdapter:
    """Adapter for RemoteMonitor: Keras' own gets the thread that keepfit's has."""

    state: ClassVar[Fields] = {}
    config = ("root", "path", "field", "headers", "send_as_json")
    handles = ()

    def get(self, callback: Any) -> State:
        return {}

    def set(self, callback: Any, state: State) -> None:
        pass

    def check(self, callback: Any, state: State) -> None:
        check_fields(state, {})

    def address(self, callback: Any) -> str:
        return f"{callback.root}{callback.path}"

    def report_once(self, callback: Any, record_once: RecordEpoch) -> None:
        if isinstance(callback, ReportingCallback):
            callback.report_once(record_once)
            return
        sender = _sender_of(callback) or ReportSender(
            callback.root, _post_of(callback), callback.path
        )
        callback.on_epoch_end = SendingHook(sender, record_once)

    def finish_sends(self, callback: Any, seconds: float | None) -> None:
        if sender := _sender_of(callback):
            sender.finish(seconds)


class SendingHook:
    """An `on_epoch_end` that leaves the report to a thread.

    Attributes:
        sender: sends the reports.
    """

    def __init__(self, sender: ReportSender, record_once: RecordEpoch) -> None:
        self.sender = sender
        self._record_once = record_once

    def __call__(self, epoch: int, logs: Any = None) -> None:
        self.sender.send(epoch, logs, self._record_once)


def _sender_of(callback: Any) -> ReportSender | None:
    hook = vars(callback).get("on_epoch_end")
    return hook.sender if isinstance(hook, SendingHook) else None


def _post_of(callback: Any) -> Post:
    """Return the function that sends a report: the hook of a derived class that has its own."""
    hook = type(callback).on_epoch_end
    if hook is keras.callbacks.RemoteMonitor.on_epoch_end:
        return partial(post_report, callback)

    def call_hook(report: dict[str, Any]) -> None:
        hook(callback, report["epoch"], {k: v for k, v in report.items() if k != "epoch"})

    return call_hook
