"""Keras' RemoteMonitor, without a cost to training, and without duplicate reports."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import keras
import numpy as np
import requests
import structlog
from tenacity import (
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_after_delay,
    stop_any,
    stop_when_event_set,
)

from keepfit.callbacks import events
from keepfit.callbacks.backoff import Backoff
from keepfit.callbacks.storage.base import StorageError

log = structlog.get_logger("keepfit")

ANSWER_TIMEOUT = 10.0
"""Seconds after which a try fails if the server has not answered."""

RETRY_SECONDS = 60.0
"""Seconds for all tries of one report together."""

CLOSE_TIMEOUT = 10.0
"""Seconds for which the end of training waits for reports that are still being sent."""

Report = dict[str, Any]


class RemoteMonitor(keras.callbacks.RemoteMonitor):
    """A callback that streams events to a server, as Keras' RemoteMonitor does.

    In `fit`, a thread sends them, one after another, so that a slow or dead server costs training
    nothing; each report is retried for a minute, and then given up with a warning. Inside
    Resumable, no epoch is reported twice, however often the run is resumed: an epoch is recorded as
    reported before it is sent, so a kill between the two loses its report.

    Args:
        root, path, field, headers, send_as_json: the arguments of Keras' RemoteMonitor.
    """

    keepfit_handles: ClassVar = ("_record_once", "_reports", "_sender", "_over")

    def __init__(self, *args: Any, **arguments: Any) -> None:
        super().__init__(*args, **arguments)
        self._record_once: Callable[[int], bool] | None = None
        self._reports: queue.SimpleQueue[Report | None] | None = None
        self._sender: threading.Thread | None = None
        self._over = threading.Event()

    def report_once(self, record_once: Callable[[int], bool]) -> None:
        """Ask `record_once`, which may raise StorageError, before each epoch is reported."""
        self._record_once = record_once

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        self._reports = queue.SimpleQueue()
        self._over = threading.Event()
        self._sender = threading.Thread(
            target=self._work, args=(self._reports, self._over), name="keepfit-monitor", daemon=True
        )
        self._sender.start()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self._reports is None:  # called by hand, outside of fit
            super().on_epoch_end(epoch, logs)
            return
        report = {"epoch": epoch}
        for name, value in (logs or {}).items():
            report[name] = value.item() if isinstance(value, np.ndarray | np.generic) else value
        self._reports.put(report)

    def on_train_end(self, logs: Any = None) -> None:
        super().on_train_end(logs)
        reports, sender = self._reports, self._sender
        self._reports = self._sender = None
        if reports and sender:
            reports.put(None)
            sender.join(CLOSE_TIMEOUT)
            if sender.is_alive():
                self._over.set()
                self._give_up(f"{reports.qsize()} reports and the one being sent were not answered")

    def _work(self, reports: queue.SimpleQueue[Report | None], over: threading.Event) -> None:
        while (report := reports.get()) and not over.is_set():
            try:
                if self._record_once is None or self._record_once(report["epoch"]):
                    _retrying(over)(_call_with_timeout, partial(self._post, report))
            except (StorageError, requests.RequestException, TypeError, ValueError) as error:
                if not over.is_set():  # otherwise on_train_end has logged it
                    self._give_up(f"epoch {report['epoch'] + 1} was not reported: {error}")

    def _post(self, report: Report) -> None:
        url = self.root + self.path
        # Without `timeout`: _call_with_timeout limits the whole call.
        if self.send_as_json:
            answer = requests.post(url, json=report, headers=self.headers)  # noqa: S113
        else:
            form = {self.field: json.dumps(report)}
            answer = requests.post(url, form, headers=self.headers)  # noqa: S113
        answer.raise_for_status()

    def _give_up(self, reason: str) -> None:
        log.warning(
            events.REPORT_FAILED,
            server=self.root,
            reason=reason,
            fix="training continues; check the server, or remove RemoteMonitor",
        )


def _call_with_timeout(post: Callable[[], None]) -> None:
    """Call `post` in a thread of its own, which is abandoned if it does not end in time.

    Raises:
        requests.RequestException: the call failed, or did not end within ANSWER_TIMEOUT.
    """
    outcome: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def work() -> None:
        try:
            post()
        except Exception as error:  # noqa: BLE001 # raised below
            outcome.put(error)
        else:
            outcome.put(None)

    threading.Thread(target=work, name="keepfit-post", daemon=True).start()
    try:
        error = outcome.get(timeout=ANSWER_TIMEOUT)
    except queue.Empty:
        raise requests.Timeout(f"no answer within {ANSWER_TIMEOUT:.0f} s") from None
    if error:
        raise error


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, requests.HTTPError):
        status = error.response.status_code
        return status >= 500 or status in (408, 429)
    return isinstance(error, requests.ConnectionError | requests.Timeout)


def _retrying(over: threading.Event) -> Retrying:
    """Return the retries of one report, which end when it is given up or training is over."""
    return Retrying(
        retry=retry_if_exception(_is_transient),
        stop=stop_any(stop_after_delay(RETRY_SECONDS), stop_when_event_set(over)),
        sleep=sleep_using_event(over),
        wait=Backoff(0.5, 8.0),
        reraise=True,
    )
