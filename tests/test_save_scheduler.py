"""When a run is saved, over a whole training by a clock of the test's."""

from __future__ import annotations

import itertools

from structlog.testing import capture_logs

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.manifest import AttemptHistory
from keepfit.callbacks.checkpoint.save_policy import parse_save_policy
from keepfit.callbacks.checkpoint.snapshot import Position
from keepfit.callbacks.save_scheduler import SaveScheduler

BATCH, TAKES = 0.5, 2.0


def trained(hours, *, stall, every="auto", past=None):
    """The times of saves, and the lines about intervals, of a training on one machine.

    Args:
        stall: what a save costs in seconds, by the time.
    """
    now, saved = [0.0], []
    pacing = SaveScheduler(
        parse_save_policy(every), past or AttemptHistory(), lambda: now[0], lambda: now[0]
    )
    with capture_logs() as logs:
        for step in range(1, int(hours * 3600 / BATCH)):
            now[0] += BATCH
            busy = bool(saved) and now[0] < saved[-1] + TAKES
            durable = TAKES if saved else None
            if pacing.due(0, step, asked=False, busy=busy, durable=durable):
                now[0] += stall(now[0])
                saved.append(now[0])
                pacing.offered(Position(step=step), stalls=True)
    return saved, [log for log in logs if log["event"] == events.SAVE_INTERVAL]


def test_the_interval_is_logged_when_it_changes_notably():
    """First when it has been measured, then as the machine grows older, then hardly any more."""
    saved, lines = trained(3, stall=lambda _: 0.05)
    assert 10 <= saved[0] < 11
    assert len(saved) > 100
    assert 2 <= len(lines) <= 6
    for before, after in itertools.pairwise(lines):
        assert after["seconds"] > 1.2 * before["seconds"]
    apart = [b - a for a, b in itertools.pairwise(saved[-20:])]
    assert all(abs(each - lines[-1]["seconds"]) < 0.3 * each for each in apart)


def test_a_save_that_becomes_costlier_is_logged():
    """The interval follows what is measured, and the line says what that was."""
    _, before = trained(2, stall=lambda _: 0.05)
    _, lines = trained(2, stall=lambda now: 0.05 if now < 5400 else 1.0)
    assert len(lines) > len(before)
    assert lines[-1]["seconds"] > 3 * before[-1]["seconds"]
    assert "costs 1 s of training" in lines[-1]["reason"]


def test_what_earlier_attempts_lived_through():
    """Saves are closer together in a run that is often killed, and the line says why."""
    _, calm = trained(0.1, stall=lambda _: 0.5)
    _, wild = trained(
        0.1, stall=lambda _: 0.5, past=AttemptHistory(interruptions=20, seconds=7200.0)
    )
    assert wild[0]["seconds"] < 0.7 * calm[0]["seconds"]
    assert "(20 so far in 2" in wild[0]["reason"]


def test_a_fixed_interval_is_kept_in_silence():
    """Who has chosen it needs no line about it."""
    saved, lines = trained(0.5, stall=lambda _: 0.05, every="1min")
    assert not lines
    assert all(60 <= b - a < 61 for a, b in itertools.pairwise(saved[1:]))
