"""What a run has used, and what is left of its limits: arithmetic over journals."""

from __future__ import annotations

import math
from itertools import accumulate

import pytest

from keepfit.callbacks.journal.document import Previous
from keepfit.callbacks.journal.read import RunJournals
from keepfit.callbacks.journal.terms import Reason
from keepfit.callbacks.journal.usage import Limits, Usage, allowances, usage_of
from tests.journal.factory import journal, moment

# Start-up takes 3 s and a step 0.1 s, so 100 steps take 13 s.
PREEMPTED = {"reason": Reason.PREEMPTED}


def found(*journals, **more):
    return RunJournals(journals, **more)


def test_time_of_all_attempts():
    """Attempts that have ended count to their end, waiting between them does not."""
    run = found(
        journal(1, price=0.36, **PREEMPTED),
        journal(2, started=1000, resumed=100, steps=200, price=0.72, **PREEMPTED),
    )
    usage = usage_of(run, 2)
    assert usage.seconds == pytest.approx(26)
    assert usage.dollars == pytest.approx(13 / 3600 * (0.36 + 0.72))
    assert (usage.attempts, usage.unpriced, usage.uncounted) == (2, (), 0)


def test_a_killed_attempt_is_completed_by_the_next_journal():
    """What has watched it knows its end; otherwise its time counts to its last record."""
    killed = journal(1, kill=True, price=0.36)
    watched = Previous(attempt=1, ended=moment(20), reason=Reason.KILLED)
    after = journal(2, started=24, resumed=100, previous=watched, price=0.36, **PREEMPTED)
    assert usage_of(found(killed, after), 2).seconds == pytest.approx(20 + 3)
    unwatched = after.model_copy(update={"previous": None})
    usage = usage_of(found(killed, unwatched), 2)
    assert (usage.seconds, usage.uncounted) == (pytest.approx(13 + 3), 1)


def test_the_end_of_the_newest_attempt_is_that_which_the_supervisor_has_seen():
    """No journal after it says so yet: `--restarts` tells this process."""
    killed = journal(3, kill=True)
    watched = Previous(attempt=3, started=moment(0), ended=moment(50), reason=Reason.KILLED)
    usage = usage_of(found(killed, first=3), 3, watched)
    assert (usage.seconds, usage.uncounted) == (50, 0)
    other = watched.model_copy(update={"started": moment(30)})  # a process that claimed nothing
    assert usage_of(found(killed, first=3), 3, other).seconds == pytest.approx(13)


def test_attempts_without_a_journal_or_price():
    """They are named; at a price that the user gives they count."""
    run = found(journal(2, price=0.36), journal(4), unreadable={3: "damaged"})
    usage = usage_of(run, 5)
    assert (usage.unpriced, usage.uncounted) == ((4,), 3)  # 1, 3 and 5 have none
    assumed = usage_of(run, 5, price=3600)
    assert (assumed.unpriced, assumed.assumed) == ((), 1)
    assert assumed.dollars == pytest.approx(13 / 3600 * 0.36 + 13)


def test_the_limit_that_is_reached_first_comes_first():
    """Each limit counts the earlier attempts and the present one."""
    usage = Usage(attempts=2, seconds=1800, dollars=3)
    hours, cost = Limits(max_hours=1), Limits(max_cost=5)
    (left,) = allowances(hours, usage, 600, None)
    assert (left.option, left.seconds) == ("--max-hours 1", pytest.approx(1200))
    assert left.used == "0.67 h of 1 h, in 3 attempts"
    (left,) = allowances(cost, usage, 600, 6.0)
    assert (left.option, left.seconds) == ("--max-cost 5", pytest.approx(600))
    assert left.used == "$4.00 of $5, in 3 attempts"
    both = allowances(Limits(1, 5), usage, 600, 6.0)
    assert [one.option for one in both] == ["--max-cost 5", "--max-hours 1"]


@pytest.mark.parametrize(
    ("limits", "usage", "price", "seconds"),
    [
        (Limits(max_hours=1), Usage(seconds=3601), None, -1),
        (Limits(max_cost=1), Usage(dollars=2), 3600.0, -1),
        (Limits(max_cost=1), Usage(dollars=2), 0.0, -math.inf),
        (Limits(max_cost=1), Usage(), 0.0, math.inf),
    ],
)
def test_limits_that_are_reached_and_machines_that_cost_nothing(limits, usage, price, seconds):
    """What is left is negative once a limit is exceeded; a free machine never reaches one."""
    (left,) = allowances(limits, usage, 0.0, price)
    assert left.seconds == pytest.approx(seconds)


def test_what_is_not_counted_is_said():
    """The line that names the amount names what is not in it."""
    usage = Usage(attempts=4, seconds=60, uncounted=2, assumed=1)
    (left,) = allowances(Limits(max_cost=1), usage, 0.0, 1.0)
    assert "without the unrecorded time of 2 that were killed or have no journal" in left.used
    assert "1 of them had no price, and count at --hourly-price" in left.used


def test_what_is_left_only_shrinks():
    """Over any time and any price: no attempt gains from having run."""
    usage = Usage(attempts=1, seconds=100, dollars=0.5)
    for price in (0.01, 1.0, 100.0):
        times = accumulate([1.0] * 50)
        left = [allowances(Limits(1, 2), usage, t, price)[0].seconds for t in times]
        assert left == sorted(left, reverse=True)
