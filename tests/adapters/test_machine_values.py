"""Numbers that `on_train_begin` takes from a clock or a process: each attempt has its own."""

from __future__ import annotations

import os
import socket
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import keras
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.callbacks.adapters.held_callbacks import HeldCallbacks
from keepfit.callbacks.adapters.machine_values import Begin, Reading, belongs_to_attempt
from tests.adapters.kept import restore, stored

FIRST_BOOT = Reading(
    {"time": 1.7e9, "monotonic": 1e6, "perf_counter": 1e6},
    {"process": 4711, "parent": 1, "thread": 4711},
    {"threads": (140_000_000_001,), "ports": (40_001, 40_002)},
)
NEXT_BOOT = Reading(
    {"time": 1.7e9 + 7200.5, "monotonic": 31.25, "perf_counter": 31.25},
    {"process": 12, "parent": 1, "thread": 12},
    {"threads": (150_000_000_001, 150_000_000_002), "ports": (50_001,)},
)
SECONDS = 0.001


def belongs(before, now, seconds=(SECONDS, SECONDS)):
    """Return whether a number that was `before` in one attempt and is `now` in the next is its own.

    The numbers are read after hooks that take so many seconds.
    """
    saved = Begin({"x": before}, seconds[0], FIRST_BOOT)
    present = Begin({"x": now}, seconds[1], NEXT_BOOT)
    return belongs_to_attempt("x", saved, present)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (1e6, 31.25),  # time.monotonic()
        (1.7e9 - 0.0004, 1.7e9 + 7200.5 - 0.0009),  # time.time(), at some moment of the hook
        (1.7e9 + 3600, 1.7e9 + 7200.5 + 3600),  # a deadline
        (1_700_000_000, 1_700_007_200),  # int(time.time())
        (1_700_000_000_000, 1_700_007_200_500),  # milliseconds
        (1_700_000_000 * 10**9, 1_700_007_200_500_000_000),  # time.time_ns()
        (4711, 12),  # os.getpid()
        (140_000_000_001, 150_000_000_002),  # the id of a thread
        (40_002, 50_001),  # the port of a socket of its own
    ],
)
def test_numbers_of_a_machine(before, now):
    """They differ between two attempts as the machines do."""
    assert belongs(before, now)


def test_a_hook_that_takes_long():
    """A clock that it reads at its start or its end is recognised; one number more is not."""
    seconds = (3.0, 8.0)
    assert belongs(1e6, 31.25, seconds)
    assert belongs(1e6 - 3, 31.25 - 8, seconds)
    assert not belongs(1e6 - 1, 31.25 - 2, seconds)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (0.25, 0.75),  # drawn at random
        (3, 0),  # a counter
        (7200, 0),
        (4711, 13),  # an id that this process does not have
        (40_003, 50_001),
        (1.7e9, 1.7e9 + 7200),  # half a second beside the clock
        (1.7e9, 1_700_007_200),  # another type
        (1e6, 1e6),  # equal: it may as well be restored
    ],
)
def test_other_numbers(before, now):
    """They are state, and are restored."""
    assert not belongs(before, now)


@given(
    before=st.floats(-1e4, 1e4) | st.integers(-(10**5), 10**5),
    now=st.floats(-1e4, 1e4) | st.integers(1_000, 10**5),
)
def test_numbers_that_are_computed(before, now):
    """Losses, draws and counters do not differ as the clocks do, but by chance."""
    by_chance = [31.25 - 1e6, 7200.5, 7_200_500]
    if not any(abs((now - before) - chance) < 0.01 for chance in by_chance):
        assert not belongs(before, now)


class Attempt(keras.callbacks.Callback):
    """A callback that takes values of all kinds from its process, and draws others."""

    def __init__(self):
        super().__init__()
        self.begun = None
        self.sockets = []

    def on_train_begin(self, logs=None):
        self.sockets = [socket.create_server(("127.0.0.1", 0))]
        self.begun, self.deadline, self.ns = time.monotonic(), time.time() + 60, time.time_ns()
        self.date, self.utc = datetime.now(UTC), datetime.now()  # noqa: DTZ005
        self.port = self.sockets[0].getsockname()[1]
        self.drawn = int.from_bytes(os.urandom(7), "little")
        self.share = self.drawn / 2**66  # far less than the time between the attempts
        self.order = list(os.urandom(4))
        self.batches = 0

    def on_train_end(self, logs=None):
        for each in self.sockets:
            each.close()


def begun():
    """Return a callback whose `on_train_begin` was called, inside Resumable."""
    held = HeldCallbacks.hold([Attempt()])
    (only,) = held
    with held.beginning(only.callback):
        only.callback.on_train_begin()
    return held, only.callback


def test_each_attempt_has_its_own():
    """Clocks and ports stay as set in the second attempt; all other values are the first one's."""
    held, first = begun()
    first.batches = 3
    time.sleep(0.2)  # two attempts of a process that has to start are further apart
    later, second = begun()
    own = dict(vars(second))
    restore(later, stored(held))
    for name in ("begun", "deadline", "ns", "port"):
        assert getattr(second, name) == own[name] != getattr(first, name), name
    for name in ("drawn", "share", "order", "batches"):
        assert getattr(second, name) == getattr(first, name) != own[name], name
    for callback in (first, second):
        callback.on_train_end()


def test_what_training_takes_from_a_clock_is_state():
    """A time that training has set since is restored, whatever clock it comes from."""
    (held, first), (later, second) = begun(), begun()
    first.begun = time.monotonic()
    restore(later, stored(held))
    assert second.begun == first.begun
    for callback in (first, second):
        callback.on_train_end()


def test_dates(logged):
    """A date that `on_train_begin` has read is the attempt's own; one from later is restored."""
    (held, first), (later, second) = begun(), begun()
    for callback in (first, second):
        callback.on_train_end()
        del callback.sockets
    first.until = first.date + timedelta(hours=1)
    own = dict(vars(second))
    # As if the attempts were further apart: a fraction of a second is below the tolerance.
    second.date += timedelta(hours=1)
    later.callbacks[0].adapter._begin = shifted(later.callbacks[0].adapter._begin)
    restore(later, stored(held))
    assert second.date == own["date"] + timedelta(hours=1)
    assert second.utc == first.utc  # it was not shifted, so it does not follow the clock
    assert second.until == first.until
    assert logged == []


def shifted(begin):
    """Return the beginning of an attempt as if all its clocks were an hour ahead."""
    clocks = {name: seconds + 3600 for name, seconds in begin.reading.clocks.items()}
    numbers = {**begin.numbers, "date": begin.numbers["date"] + timedelta(hours=1)}
    return replace(begin, numbers=numbers, reading=replace(begin.reading, clocks=clocks))


def test_without_a_beginning():
    """State of a fit that is passed over has no `on_train_begin` to keep to: all is restored."""
    held, first = begun()
    new = Attempt()
    restore(HeldCallbacks.hold([new]), stored(held))
    assert new.begun == first.begun
    assert "keepfit.begin" not in vars(new)
    first.on_train_end()


def test_threads_and_processes():
    """A reading has the ids of this process and of all its threads."""
    reading = Reading.now()
    assert threading.get_ident() in reading.many["threads"]
    assert reading.ids["process"] == os.getpid()
