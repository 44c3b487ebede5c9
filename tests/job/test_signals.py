"""Signals of this process outside of `fit`."""

from __future__ import annotations

import gc
import signal
import threading
import time

import pytest

from keepfit.callbacks import events
from keepfit.callbacks.engine.preemption import PreemptionState
from keepfit.callbacks.errors import Preempted
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.job.notices import signals


class Lingering:
    """An object in whose finalizer a signal arrives; Python discards exceptions from there."""

    def __del__(self):
        signal.raise_signal(signal.SIGTERM)
        sum(range(1000))


def test_an_exception_that_python_discards():
    """The signal ends the process all the same, a moment later, and is logged once."""
    session = PreemptionState()
    began = time.monotonic()

    def interrupted():
        Lingering()
        gc.collect()
        threading.Event().wait(20)

    with capture_logs() as logs, signals.trap_signals(session, grace=30), pytest.raises(Preempted):
        interrupted()
    assert [log["source"] for log in logs if log["event"] == events.NOTICE] == ["SIGTERM"]
    assert session.notice.source == "SIGTERM"
    assert began + 30 <= session.deadline() <= time.monotonic() + 30


def test_sigusr1_is_no_notice():
    """SIGUSR1 requests a save, in training or not."""
    session = PreemptionState()
    with signals.trap_signals(session):
        signal.raise_signal(signal.SIGUSR1)
        assert session.save_requested
    assert session.notice is None
