"""When training continues after a notice, and when it exits: arithmetic."""

from __future__ import annotations

import itertools

import pytest
from structlog.testing import capture_logs

from keepfit.callbacks import events
from keepfit.callbacks.engine import save_policy
from keepfit.callbacks.engine.preemption import final_save_reserve, must_leave
from keepfit.callbacks.engine.run import Run
from keepfit.callbacks.engine.preemption import Notice
from keepfit.callbacks.storage import open_store
from tests.checkpoint.samples import snapshot, take_over

SPOT = Notice("spot", deadline=1000.0, training_allowed=True)


@pytest.mark.parametrize(("save_seconds", "reserve"), [(0.0, 5.0), (2.0, 8.0), (60.0, 95.0)])
def test_reserve_for_the_final_save(save_seconds, reserve):
    """The reserve is 1.5 times the duration of a save, and five seconds to exit."""
    assert final_save_reserve(save_seconds) == reserve


@pytest.mark.parametrize(
    ("left", "save_seconds", "interval", "leaves"),
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
def test_a_known_deadline_is_used(left, save_seconds, interval, leaves):
    """Training continues as long as the next batch ends before the final save has to start."""
    now = SPOT.deadline - left
    leaving = must_leave(SPOT, now, save_seconds=save_seconds, boundary_interval=interval)
    assert leaving is leaves


@pytest.mark.parametrize("notice", [Notice("SIGINT"), Notice("SIGTERM", deadline=1000.0)])
def test_other_notices_end_training_at_once(notice):
    """A notice that does not allow training ends it with the first save, whatever its deadline."""
    assert must_leave(notice, 0.0, save_seconds=1.0, boundary_interval=0.1)


def test_an_unknown_deadline_means_no_time():
    """Without a deadline, training ends at once, even if the notice allows it to continue."""
    notice = Notice("spot", training_allowed=True)
    assert must_leave(notice, 0.0, save_seconds=1.0, boundary_interval=0.1)


@pytest.mark.parametrize(("tick", "warned"), [(1.0, False), (100.0, True)])
def test_a_save_that_takes_too_long(tmp_path, tick, warned):
    """One warning, after the first slow save, has its seconds and a fix."""
    ticks = itertools.count(0.0, tick)
    store = open_store(f"file://{tmp_path}")
    run = Run(
        store, take_over(store), save_policy.parse_save_policy("1h"), clock=lambda: next(ticks)
    )
    with capture_logs() as logs:
        for step in (1, 2):
            assert run.save(snapshot(step))
    run.close()
    warnings = [log for log in logs if log["event"] == events.SAVE_SLOW]
    assert len(warnings) == warned
    if warned:
        assert warnings[0]["seconds"] >= 100
        assert "--save-every" in warnings[0]["fix"]
