"""The adapter of RemoteMonitor, which reports an epoch again when it is trained again."""

from __future__ import annotations

from typing import Any

from keepfit.callbacks.adapters.base import RecordOnce, ReportingCallback, State


class RemoteMonitorAdapter:
    """Adapter for RemoteMonitor, which reports an epoch again when it is trained again."""

    state = ()
    config = ("root", "path", "field", "headers", "send_as_json")
    handles = ()

    def get(self, callback: Any) -> State:
        return {}

    def set(self, callback: Any, state: State) -> None:
        pass

    def report_once(self, callback: Any, record_once: RecordOnce) -> None:
        target = f"{callback.root}{callback.path}"
        if isinstance(callback, ReportingCallback):  # it asks from its own thread
            callback.report_once(lambda epoch: record_once(f"{target}-{epoch}"))
            return
        report = type(callback).on_epoch_end

        def report_new(epoch: int, logs: Any = None) -> None:
            if record_once(f"{target}-{epoch}"):
                report(callback, epoch, logs)

        callback.on_epoch_end = report_new
