"""Notifications are sent in order, again after failures, and never waited for but briefly."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from keepfit.callbacks import events
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.job.notifications.notification import Kind, Notification
from keepfit.job.notifications.sender import NotificationSender
from tests.servers.processes import free_port
from tests.servers.webhook import webhook

PATIENCE = 20.0
"""Seconds for what takes some milliseconds, on a machine with other work."""


def notification(kind):
    """Return a notification of this kind."""
    return Notification(kind, "mnist", 2, 1270, 7, datetime(2026, 11, 23, tzinfo=UTC), "host")


def failed(logs):
    """Return the fields of the only line, which says what was not sent."""
    (line,) = logs
    assert line.pop("event") == events.NOTIFY_FAILED
    assert "not affected" in line.pop("fix")
    return line


def test_in_order_to_all_addresses():
    """Each address gets each event."""
    with webhook() as first, webhook() as second, capture_logs() as logs:
        sender = NotificationSender([first.url, second.url])
        for kind in (Kind.RESUMED, Kind.STALLED, Kind.STALLED, Kind.FINISHED):
            sender.send(notification(kind))
        sender.finish(PATIENCE)
    assert first.names == second.names == ["resumed", "stalled", "stalled", "finished"]
    assert logs == []


def test_a_server_that_fails_for_a_while():
    """It is asked again, and the same document arrives."""
    with webhook([503, 429, 200]) as hook, capture_logs() as logs:
        sender = NotificationSender([hook.url])
        sender.send(notification(Kind.FAILED))
        sender.finish(PATIENCE)
    assert (len(hook.requests), hook.names) == (3, ["failed"])
    assert logs == []


def test_a_server_that_refuses():
    """One line, without a further try; later notifications are sent as usual."""
    with webhook([404, 200]) as hook, capture_logs() as logs:
        sender = NotificationSender([f"{hook.url}/hidden"])
        sender.send(notification(Kind.RESUMED))
        sender.send(notification(Kind.FINISHED))
        sender.finish(PATIENCE)
    assert hook.names == ["finished"]
    assert failed(logs) == {
        "log_level": "warning",
        "notifications": ["resumed"],
        "reason": f"{hook.url} answers 404",
    }


@pytest.mark.parametrize("hangs", [True, False], ids=["hangs", "refuses connections"])
def test_the_end_waits_briefly(hangs):
    """Sending returns at once; the end waits for the given time, in parallel for all addresses."""
    with webhook() as hook, webhook() as other, capture_logs() as logs:
        hook.answering.clear()
        url = hook.url if hangs else f"http://127.0.0.1:{free_port()}"
        sender = NotificationSender([url, other.url, f"{url}/2"])
        began = time.monotonic()
        sender.send(notification(Kind.STALLED))
        sender.send(notification(Kind.PREEMPTED))
        assert time.monotonic() - began < 5
        other.await_event("preempted")
        began = time.monotonic()
        sender.finish(1.0)
        assert 1.0 <= time.monotonic() - began < 1.9
    assert other.names == ["stalled", "preempted"]
    assert len(logs) == 2
    for line in logs:
        assert line["notifications"] == ["stalled", "preempted"]
        assert line["reason"] == f"{url} has not answered within 1.0 s"


def test_nothing_to_send():
    """Without an address, or without an event, the end waits for nothing."""
    with webhook() as hook:
        for urls in ([], [hook.url]):
            began = time.monotonic()
            NotificationSender(urls).finish(PATIENCE)
            assert time.monotonic() - began < 1
