"""The account of an attempt's time."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.callbacks.journal.terms import Activity
from keepfit.callbacks.journal.time_account import TimeAccount

SECONDS = st.floats(0, 1e6)
CHANGES = st.lists(st.tuples(st.sampled_from(Activity), SECONDS, st.booleans()), max_size=30)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@given(before=SECONDS, changes=CHANGES)
def test_the_activities_add_up(before, changes):
    """Each second is that of one activity, also where activities are nested."""
    clock = Clock()
    account = TimeAccount(clock.now, Activity.STARTUP, clock)
    spent = dict.fromkeys(Activity, 0.0)
    clock.now += before
    spent[Activity.STARTUP] += before
    for activity, seconds, nested in changes:
        if nested:
            with account.during(activity):
                clock.now += seconds
        else:
            account.switch(activity)
            clock.now += seconds
        spent[activity] += seconds
    elapsed = account.elapsed()
    for activity in Activity:
        assert math.isclose(getattr(elapsed, activity.value), spent[activity], abs_tol=1e-3)
    assert math.isclose(elapsed.total, clock.now - 100.0, abs_tol=1e-3)


def test_an_exception_ends_a_nested_activity():
    """The activity before it goes on."""
    account = TimeAccount(0.0, Activity.TRAINING, Clock())
    with pytest.raises(ZeroDivisionError), account.during(Activity.SAVING):
        raise ZeroDivisionError
    assert account.activity is Activity.TRAINING


def test_a_clock_that_goes_back_takes_no_time_away():
    """No activity ever has less time than before."""
    clock = Clock()
    account = TimeAccount(clock.now, Activity.STARTUP, clock)
    clock.now += 10
    account.switch(Activity.TRAINING)
    clock.now -= 5
    assert account.elapsed().startup == 10
    assert account.elapsed().training == 0


def test_start_of_the_process():
    """It is the moment at which the process was started, not that of the first question."""
    script = (
        "import json, time; time.sleep(0.5)\n"
        "from keepfit.callbacks.journal.time_account import ProcessStart\n"
        "start = ProcessStart.of_this_process()\n"
        "print(json.dumps([start.monotonic, start.time_of_day.isoformat()]))"
    )
    before, moment = time.monotonic(), datetime.now(UTC)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        began = time.monotonic()
        monotonic, time_of_day = json.loads(process.communicate()[0])
    tick = 0.02  # the kernel counts in hundredths of a second
    assert before - tick <= monotonic <= began + tick
    assert abs((datetime.fromisoformat(time_of_day) - moment).total_seconds()) < 0.4
