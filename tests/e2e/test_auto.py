"""save_every="auto", the default, in real processes."""

from __future__ import annotations

import signal
from datetime import datetime, timedelta

from tests.e2e.process import SMALL, document, started

LONG = ("--epochs", "1000000", "--patience", "1000000", "--batch-seconds", "0.02")
ENDLESS = ("--deterministic", SMALL, "infinite", *LONG)


def attempt_history(folder):
    """Return the history of attempts in HEAD."""
    return document(folder / "runs/small/HEAD.json")["past"]


def at(event):
    return datetime.fromisoformat(event["timestamp"])


def test_the_interval_follows_from_measurements(tmp_path):
    """The first save comes after 10 s; then the log has the interval and its reason.

    The next attempt counts the killed attempt as an interruption, with its lifetime; an attempt
    that got a notice has lost nothing, and is recorded as such.
    """
    with started(tmp_path, *ENDLESS) as attempt:
        began = attempt.until_event("attempt_started")
        saved = attempt.until_event("checkpoint_saved")
        interval = attempt.until_event("save_interval")
        attempt.send(signal.SIGKILL)
        attempt.wait()
    assert at(saved) - at(began) >= timedelta(seconds=10)
    assert interval["seconds"] >= 30
    assert "of training and is durable after" in interval["reason"]
    assert "is expected once in 4 h" in interval["reason"]
    assert "(0 so far" in interval["reason"]
    first = attempt_history(tmp_path)
    assert first["lived"] >= 10
    assert (first["ends"], first["parted"]) == (0, False)

    with started(tmp_path, *ENDLESS) as attempt:
        attempt.until_event("resumed")
        again = attempt.until_event("save_interval")
        attempt.send(signal.SIGTERM)
        ended = attempt.wait()
    assert ended.code == 75, ended.err
    assert "is expected once in 2 h" in again["reason"]
    assert "(1 so far" in again["reason"]
    second = attempt_history(tmp_path)
    assert (second["ends"], second["seconds"], second["parted"]) == (1, first["lived"], True)
