"""Reports of epochs to a server, sent by a thread, with limits for the time of each."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import requests

from keepfit.callbacks import events
from keepfit.callbacks.files.send_thread import Sender, SendThread, retrying
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.masking import mask_known, mask_url
from keepfit.callbacks.storage.base import StorageError

log = get_logger()

ANSWER_TIMEOUT = 10.0
"""Seconds after which a try fails if the server has not answered."""

CLOSE_TIMEOUT = 10.0
"""Seconds for which the end of training waits for reports at most."""

Report = dict[str, Any]
Post = Callable[[Report], None]
RecordEpoch = Callable[[int], bool]
"""Records an epoch as reported; returns False if it was before, raises StorageError if unknown."""


class ReportSender(Sender):
    """Sends the reports of one callback to a server, one after another.

    Args:
        server: the address of the server; log lines have it without its secrets.
        post: sends a report; it raises requests.RequestException if the server did not accept it.
        path: the path at the server, whose query log lines do not have either.
    """

    def __init__(self, server: str, post: Post, path: str = "") -> None:
        super().__init__()
        self._server = server
        self._path = path
        self._post = post
        self._count = 0

    def send(
        self, epoch: int, logs: Mapping[str, Any] | None, record_once: RecordEpoch | None
    ) -> None:
        """Send a report of this epoch, unless `record_once`, called on the thread, forbids it."""
        report = {"epoch": epoch}
        for name, value in (logs or {}).items():
            report[name] = value.item() if isinstance(value, np.ndarray | np.generic) else value
        self._thread = self._thread or SendThread("keepfit-monitor")
        job = partial(self._report, report, record_once, self._thread.abandoned)
        self._count += 1
        self._thread.add(f"epoch {epoch + 1} (report {self._count})", job)

    def finish(self, seconds: float | None) -> None:
        """Wait for the reports, log those that were not sent, and stop the thread.

        Args:
            seconds: how long to wait at most; CLOSE_TIMEOUT limits it further.
        """
        limit = CLOSE_TIMEOUT if seconds is None else min(seconds, CLOSE_TIMEOUT)
        if left := self.finish_thread(limit):
            self._give_up(f"{len(left)} reports were not answered in time, from {left[0]} on")

    def _report(
        self, report: Report, record_once: RecordEpoch | None, abandoned: threading.Event
    ) -> None:
        """Send one report, on the thread."""
        try:
            if record_once is None or record_once(report["epoch"]):
                retrying(abandoned, _is_transient)(_call_with_timeout, partial(self._post, report))
        except (StorageError, requests.RequestException, TypeError, ValueError) as error:
            if not abandoned.is_set():  # otherwise `finish` has logged it
                self._give_up(f"epoch {report['epoch'] + 1} was not reported: {_cause(error)}")

    def _give_up(self, reason: str) -> None:
        log.warning(
            events.REPORT_FAILED,
            server=mask_url(self._server),
            reason=mask_known(reason, [self._server, f"{self._server}{self._path}"]),
            fix="training continues; check the server, or remove RemoteMonitor",
        )


def _cause(error: Exception) -> str:
    if isinstance(error, requests.exceptions.InvalidHeader):  # it has the value, often a token
        return "the value of one of `headers` is no text of a single line"
    return str(error)


def post_report(monitor: Any, report: Report) -> None:
    """Send a report as Keras' RemoteMonitor `monitor` is configured, and wait for the answer.

    Raises:
        requests.RequestException: the server did not accept it.
    """
    body = (
        {"json": report} if monitor.send_as_json else {"data": {monitor.field: json.dumps(report)}}
    )
    # Without `timeout`: _call_with_timeout limits the whole call.
    answer = requests.post(monitor.root + monitor.path, headers=monitor.headers, **body)  # noqa: S113 # nosec B113 # see above
    answer.raise_for_status()


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
