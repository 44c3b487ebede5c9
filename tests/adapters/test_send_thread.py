"""The thread that sends files and reports: the newest job of a name, and one way to stop it."""

from __future__ import annotations

import threading

import pytest

from keepfit.callbacks import events
from keepfit.callbacks.files.send_thread import NotSent, SendThread
from keepfit.callbacks.logs.logger import capture_logs


class Gate:
    """A job that waits until it is opened."""

    def __init__(self):
        self.begun, self.opened = threading.Event(), threading.Event()

    def __call__(self):
        self.begun.set()
        assert self.opened.wait(30)


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.opened.set()


def test_jobs_are_done_in_order_on_one_thread():
    """They begin with the first job; `finish` waits for all and stops the thread."""
    thread, done = SendThread("test"), []
    for number in range(5):
        thread.add(str(number), lambda n=number: done.append((n, threading.current_thread().name)))
    assert thread.finish(None) == ()
    assert done == [(n, "test") for n in range(5)]
    assert thread.join(10)


def test_thread_without_a_job():
    """It never starts, and finishes at once."""
    thread = SendThread("test")
    assert thread.finish(None) == ()


def test_newest_job_of_a_name(gate):
    """A job that waits is replaced, the one under way is not, and `unless_replaced` knows."""
    thread, done = SendThread("test"), []

    def old():
        gate()
        thread.unless_replaced("a", lambda: done.append("removed by the old one"))

    thread.add("a", old)
    assert gate.begun.wait(10)
    thread.add("a", lambda: done.append("middle"))
    thread.add("a", lambda: thread.unless_replaced("a", lambda: done.append("newest")))
    gate.opened.set()
    assert thread.finish(None) == ()
    assert done == ["newest"]


def test_job_that_cannot_be_done_now(gate):
    """It is tried again with the next job and at the end, and then named as not done."""
    thread, tries = SendThread("test"), []

    def failing():
        tries.append(1)
        raise NotSent

    thread.add("bad", failing)
    thread.add("gate", gate)
    assert gate.begun.wait(10)
    assert len(tries) == 1
    gate.opened.set()
    thread.add("next", lambda: None)
    assert thread.finish(None) == ("bad",)
    assert len(tries) >= 2
    assert thread.join(10)


def test_finish_waits_for_a_limited_time(gate):
    """It names the job under way and those that wait, which are never begun."""
    thread, done = SendThread("test"), []
    thread.add("first", gate)
    thread.add("second", lambda: done.append(2))
    assert gate.begun.wait(10)
    assert thread.finish(0.1) == ("first", "second")
    assert thread.abandoned.is_set()
    gate.opened.set()
    assert thread.join(10)
    assert done == []


def test_unexpected_error_is_logged():
    """It ends neither the thread nor training."""
    thread, done = SendThread("test"), []
    with capture_logs() as logs:
        thread.add("wrong", lambda: 1 / 0)
        thread.add("next", lambda: done.append(1))
        assert thread.finish(None) == ()
    assert [(line["event"], line["name"]) for line in logs] == [(events.SEND_FAILED, "wrong")]
    assert "ZeroDivisionError" in logs[0]["reason"]
    assert done == [1]
