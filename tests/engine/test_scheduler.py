"""The times of saves over a whole training, by a clock of the test."""

from __future__ import annotations

import itertools

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.format.head import AttemptHistory
from keepfit.callbacks.checkpoint.format.position import Position
from keepfit.callbacks.engine.save_policy import parse_save_policy
from keepfit.callbacks.engine.scheduler import SaveScheduler
from keepfit.callbacks.logs.logger import capture_logs

BATCH, SAVE_SECONDS = 0.5, 2.0


def trained(hours, *, stall, every="auto", past=None):
    """Return the times of saves, and the logged intervals, of a training on one machine.

    Args:
        stall: the seconds that a save costs at a given time.
    """
    now, saved = [0.0], []
    scheduler = SaveScheduler(
        parse_save_policy(every), past or AttemptHistory(), lambda: now[0], lambda: now[0]
    )
    with capture_logs() as logs:
        for step in range(1, int(hours * 3600 / BATCH)):
            now[0] += BATCH
            busy = bool(saved) and now[0] < saved[-1] + SAVE_SECONDS
            durable = SAVE_SECONDS if saved else None
            scheduler.observe(0, step, busy=busy, durable=durable)
            if not busy and scheduler.should_save(0, step, durable=durable):
                now[0] += stall(now[0])
                saved.append(now[0])
                scheduler.submitted(Position(step=step), stalls=True)
    return saved, [log for log in logs if log["event"] == events.SAVE_INTERVAL]


def test_the_interval_is_logged_when_it_changes_notably():
    """First after the first measurement, then as the machine grows older, then hardly ever."""
    saved, lines = trained(3, stall=lambda _: 0.05)
    assert 10 <= saved[0] < 11
    assert len(saved) > 100
    assert 2 <= len(lines) <= 6
    for before, after in itertools.pairwise(lines):
        assert after["seconds"] > 1.2 * before["seconds"]
    apart = [b - a for a, b in itertools.pairwise(saved[-20:])]
    assert all(abs(each - lines[-1]["seconds"]) < 0.3 * each for each in apart)


def test_a_save_that_becomes_costlier_is_logged():
    """The interval follows the measured cost, which the line names."""
    _, before = trained(2, stall=lambda _: 0.05)
    _, lines = trained(2, stall=lambda now: 0.05 if now < 5400 else 1.0)
    assert len(lines) > len(before)
    assert lines[-1]["seconds"] > 3 * before[-1]["seconds"]
    assert "costs 1 s of training" in lines[-1]["reason"]


def test_interruptions_of_earlier_attempts():
    """A run that is often killed saves more often, and the line has the reason."""
    _, calm = trained(0.1, stall=lambda _: 0.5)
    _, wild = trained(
        0.1, stall=lambda _: 0.5, past=AttemptHistory(interruptions=20, seconds=7200.0)
    )
    assert wild[0]["seconds"] < 0.7 * calm[0]["seconds"]
    assert "(20 so far in 2" in wild[0]["reason"]


def test_a_fixed_interval_is_not_logged():
    """An interval that the user has chosen is kept, without a line about it."""
    saved, lines = trained(0.5, stall=lambda _: 0.05, every="1min")
    assert not lines
    assert all(60 <= b - a < 61 for a, b in itertools.pairwise(saved[1:]))


def test_a_query_changes_nothing():
    """Whether a save is due can be asked any number of times at a boundary."""
    scheduler = SaveScheduler(
        parse_save_policy("3 batches"), AttemptHistory(), lambda: 0.0, lambda: 0.0
    )
    for step, due in ((2, False), (3, True)):
        scheduler.observe(0, step, busy=False, durable=None)
        for _ in range(3):
            assert scheduler.should_save(0, step, durable=None) is due
