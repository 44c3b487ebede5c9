"""Holding a process until its instance is gone, so that the next attempt starts elsewhere."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import asdict

import pytest

from keepfit.callbacks import events
from keepfit.callbacks.engine.preemption import Notice, PreemptionState
from keepfit.callbacks.errors import ConfigurationError
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.runner_settings import NoticeSettings, OnNotice
from keepfit.job import batch_hold
from keepfit.job.notices import signals


def hold(*notices):
    """Hold after these notices. Return the seconds that it took and the logged events."""
    session = PreemptionState()
    for notice in notices:
        session.give_notice(notice)
    began = time.monotonic()
    with capture_logs() as logs:
        batch_hold.hold_until_gone(session)
    return time.monotonic() - began, [log["event"] for log in logs]


def spot(seconds):
    return Notice(
        "spot", time.monotonic() + seconds, training_allowed=True, hold_until_deadline=True
    )


def test_until_five_seconds_before_the_end():
    """The process exits early enough for its exit code to be reported."""
    seconds, logged = hold(spot(5.4))
    assert 0.3 < seconds < 2
    assert logged == [events.HOLDING]


@pytest.mark.parametrize(
    "notices",
    [
        [],
        [Notice("spot", 1e9, training_allowed=True)],
        [Notice("spot", hold_until_deadline=True)],
        [Notice("spot", 1e9, hold_until_deadline=True), Notice("SIGTERM", 1e9)],
        [Notice("spot", 0.0, hold_until_deadline=True)],
    ],
)
def test_otherwise_it_exits_at_once(notices):
    """Not held: outside AWS Batch, with an unknown or past deadline, and after SIGTERM."""
    seconds, logged = hold(*notices)
    assert seconds < 0.3
    assert logged == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(number):
    """A signal ends the hold, so that stopping the container takes no longer."""
    session = PreemptionState()
    session.give_notice(spot(60))
    began = time.monotonic()
    with signals.trap_signals(session):
        threading.Timer(0.2, os.kill, (os.getpid(), number)).start()
        batch_hold.hold_until_gone(session)
    assert time.monotonic() - began < 10


BATCH = {"AWS_BATCH_JOB_ATTEMPT": "1"}


@pytest.mark.parametrize(
    ("given", "environment", "hold_until_deadline"),
    [
        ({}, {}, False),
        ({}, BATCH, True),
        ({}, {"AWS_BATCH_JOB_ID": "x"}, True),
        ({"KEEPFIT_LEAVE_AT_ONCE": "1"}, BATCH, False),
    ],
)
def test_on_aws_batch(monkeypatch, given, environment, hold_until_deadline):
    """Holding is the default on AWS Batch, which starts the next attempt when this one ends."""
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert NoticeSettings.resolve().hold_until_deadline(environment) is hold_until_deadline


def test_defaults():
    """Settings without any argument or variable."""
    settings = NoticeSettings.resolve()
    assert asdict(settings) == {
        "on_notice": OnNotice.TRAIN_ON,
        "leave_at_once": False,
        "preempted_exit_code": 75,
        "grace": "30s",
        "watch": "",
    }
    assert settings.grace_seconds == 30


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("30s", 30), ("2min", 120), (" 1.5 s ", 1.5)]
)
def test_grace(monkeypatch, text, seconds):
    """The grace period is a duration; a plain number means seconds."""
    monkeypatch.setenv("KEEPFIT_GRACE", text)
    assert NoticeSettings.resolve().grace_seconds == seconds


BAD = [
    *(("preempted_exit_code", x) for x in ["0", "74", "76", "78", "256", "-1", "x", ""]),
    *(("grace", x) for x in ["", "0", "-5", "soon", "3 epochs", "inf"]),
    *(("watch", x) for x in ["ftp://x/y", "s3://x/y"]),
    *(("on_notice", x) for x in ["stay", ""]),
    ("leave_at_once", "perhaps"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_value_gives_one_clear_line(monkeypatch, name, value):
    """The error names the setting and shows the value."""
    monkeypatch.setenv(f"KEEPFIT_{name.upper()}", value)
    with pytest.raises(ConfigurationError) as caught:
        NoticeSettings.resolve()
    assert f"Received: {name}=" in str(caught.value)
    assert str(caught.value).strip("'").endswith(value)
    assert "\n" not in str(caught.value)
