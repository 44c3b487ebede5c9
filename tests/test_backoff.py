"""Nothing that keepfit does in the background changes what a script draws."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
from tenacity import RetryCallState, Retrying

import keepfit
from keepfit.callbacks.backoff import Backoff
from keepfit.callbacks.session import Session
from keepfit.callbacks.storage.base import Transient
from keepfit.callbacks.storage.s3.retries import RetryPolicy
from keepfit.job.notices.source import SourceUnavailable
from keepfit.job.notices.watcher import NoticeWatcher


@pytest.fixture(autouse=True)
def untouched():
    """The state of Python's and NumPy's generators is the same afterwards."""
    random.seed(5)
    np.random.seed(5)
    before = random.getstate(), str(np.random.get_state(legacy=False))
    yield
    assert (random.getstate(), str(np.random.get_state(legacy=False))) == before


def waits(backoff, tries):
    state = RetryCallState(Retrying(), None, (), {})
    found = []
    for number in range(1, tries + 1):
        state.attempt_number = number
        found.append(backoff(state))
    return found


def test_waits_grow_to_the_longest():
    """Each is random, and none is longer than it may be."""
    found = waits(Backoff(0.2, 8.0), 2000)
    assert all(0 <= wait <= min(8.0, 0.2 * 2**i) for i, wait in enumerate(found[:20]))
    assert max(found) <= 8.0
    assert max(found[10:]) > 4.0
    assert len(set(found)) == len(found)


def test_retries_of_s3():
    """A store that has to ask again does not draw from the script's generator."""
    tries = []

    def fail(number):
        tries.append(number)
        if number < 5:
            raise Transient("later")

    RetryPolicy(longest_wait=0.001).trying(fail, lambda: None)
    assert tries == [1, 2, 3, 4, 5]


def test_watching_the_machine():
    """Nor does a poll of the metadata, whose pauses are random."""
    asked = []

    class Silent:
        def describe(self):
            return {}

        def ask(self):
            asked.append(1)
            raise SourceUnavailable("nobody")

        def understand(self, said, now):
            return None

    watcher = NoticeWatcher(Silent(), Session(), every=0.001)
    watcher.start()
    until = time.monotonic() + 20
    while len(asked) < 3:
        assert time.monotonic() < until
    watcher.stop()


def test_reports_to_a_dead_server(monkeypatch):
    """Nor the tries of a report; and when training is over, they are."""
    monkeypatch.setattr("keepfit.callbacks.remote_monitor.CLOSE_TIMEOUT", 2.0)
    monitor = keepfit.RemoteMonitor("http://127.0.0.1:1")
    monitor.on_train_begin()
    sender = monitor._sender
    monitor.on_epoch_end(0, {"loss": 1.0})
    monitor.on_train_end()
    sender.join(10)
    assert not sender.is_alive()
