"""keepfit's background work does not change the random numbers that a script draws."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
from tenacity import RetryCallState, Retrying

import keepfit
from keepfit.callbacks.backoff import Backoff
from keepfit.callbacks.engine.preemption import PreemptionState
from keepfit.callbacks.storage.base import Transient
from keepfit.callbacks.storage.s3.retries import RetryPolicy
from keepfit.job.notices.source import SourceUnavailable
from keepfit.job.notices.watcher import NoticeWatcher


@pytest.fixture(autouse=True)
def untouched():
    """Assert that a test leaves the state of Python's and NumPy's generators unchanged."""
    random.seed(5)
    np.random.seed(5)
    before = random.getstate(), str(np.random.get_state(legacy=False))
    yield
    assert (random.getstate(), str(np.random.get_state(legacy=False))) == before


def waits(backoff, tries):
    state = RetryCallState(Retrying(), None, (), {})
    seconds = []
    for number in range(1, tries + 1):
        state.attempt_number = number
        seconds.append(backoff(state))
    return seconds


def test_waits_grow_to_the_longest():
    """Each wait is random, and at most the limit of its attempt."""
    seconds = waits(Backoff(0.2, 8.0), 2000)
    assert all(0 <= wait <= min(8.0, 0.2 * 2**i) for i, wait in enumerate(seconds[:20]))
    assert max(seconds) <= 8.0
    assert max(seconds[10:]) > 4.0
    assert len(set(seconds)) == len(seconds)


def test_retries_of_s3():
    """Retries of a store do not draw from the script's generator."""
    tries = []

    def fail(number):
        tries.append(number)
        if number < 5:
            raise Transient("later")

    RetryPolicy(longest_wait=0.001).call(fail, lambda: None)
    assert tries == [1, 2, 3, 4, 5]


def test_watching_the_machine():
    """Polls of the metadata, whose pauses are random, do not draw from it either."""
    polls = []

    class Unavailable:
        def describe(self):
            return {}

        def fetch(self):
            polls.append(1)
            raise SourceUnavailable("no server")

        def parse(self, message, now):
            return None

    watcher = NoticeWatcher(Unavailable(), PreemptionState(), every=0.001)
    watcher.start()
    until = time.monotonic() + 20
    while len(polls) < 3:
        assert time.monotonic() < until
    watcher.stop()


def test_reports_to_a_dead_server(monkeypatch):
    """Retries of a report do not draw from it either, and they end after the training."""
    monkeypatch.setattr("keepfit.callbacks.files.report_sender.CLOSE_TIMEOUT", 2.0)
    monitor = keepfit.RemoteMonitor("http://127.0.0.1:1")
    monitor.on_train_begin()
    monitor.on_epoch_end(0, {"loss": 1.0})
    thread = monitor._sender._thread
    monitor.on_train_end()
    assert thread.join(10)
