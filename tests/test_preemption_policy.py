"""When training goes on after a notice, and when it leaves: arithmetic."""

from __future__ import annotations

import itertools

import pytest
from structlog.testing import capture_logs

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint import save_policy
from keepfit.callbacks.preemption_policy import final_save_reserve, must_leave
from keepfit.callbacks.run import Run
from keepfit.callbacks.session import Notice
from keepfit.callbacks.storage import open_store
from tests.checkpoint.samples import snapshot, take_over

SPOT = Notice("spot", deadline=1000.0, training_allowed=True)


@pytest.mark.parametrize(("saving", "kept"), [(0.0, 5.0), (2.0, 8.0), (60.0, 95.0)])
def test_what_is_kept_for_the_last_save(saving, kept):
    """Half as much again as a save has taken, and five seconds to end."""
    assert final_save_reserve(saving) == kept


@pytest.mark.parametrize(
    ("left", "saving", "pace", "leaving"),
    [
        (120.0, 2.0, 0.1, False),
        (9.0, 2.0, 0.1, False),
        (8.0, 2.0, 0.1, True),
        (0.0, 0.0, 0.0, True),
        (-50.0, 0.0, 0.0, True),
        (20.0, 2.0, 13.0, True),
        (120.0, 80.0, 0.1, True),
    ],
)
def test_a_known_deadline_is_used(left, saving, pace, leaving):
    """Training goes on as long as the next batch still ends before the last save has to begin."""
    now = SPOT.deadline - left
    assert must_leave(SPOT, now, saving=saving, pace=pace) is leaving


@pytest.mark.parametrize("notice", [Notice("SIGINT"), Notice("SIGTERM", deadline=1000.0)])
def test_others_leave_at_once(notice):
    """With the first save, however much time there is."""
    assert must_leave(notice, 0.0, saving=1.0, pace=0.1)


def test_no_deadline_is_no_time():
    """Who does not know how long it may train saves what there is."""
    assert must_leave(Notice("spot", training_allowed=True), 0.0, saving=1.0, pace=0.1)


@pytest.mark.parametrize(("tick", "warned"), [(1.0, False), (100.0, True)])
def test_a_save_that_takes_too_long(tmp_path, tick, warned):
    """After the first, once: the seconds that it took, and what would help."""
    ticks = itertools.count(0.0, tick)
    store = open_store(f"file://{tmp_path}")
    run = Run(
        store, take_over(store), save_policy.parse_save_policy("1h"), clock=lambda: next(ticks)
    )
    with capture_logs() as logs:
        for step in (1, 2):
            assert run.save(snapshot(step))
    run.close()
    found = [log for log in logs if log["event"] == events.SAVE_SLOW]
    assert len(found) == warned
    if warned:
        assert found[0]["seconds"] >= 100
        assert "--save-every" in found[0]["fix"]
