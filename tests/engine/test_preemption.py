"""When training continues after a notice, and when it exits: arithmetic."""

from __future__ import annotations

import itertools

import pytest

from keepfit.callbacks import events
from keepfit.callbacks.engine.preemption import (
    Notice,
    PreemptionPolicy,
    PreemptionState,
    final_save_reserve,
    must_leave,
)
from keepfit.callbacks.engine.run import Run
from keepfit.callbacks.engine.writer import Written
from keepfit.callbacks.errors import Fenced, LimitReached, Preempted, Refused
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.settings import Settings
from keepfit.callbacks.storage import open_store
from tests.checkpoint.samples import RUN, snapshot
from tests.engine.fits import AnyFit

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
    settings = Settings.resolve(store=f"file://{tmp_path}", run=RUN, save_every="1h")
    run = Run(settings, open_store(settings.store), PreemptionState(), clock=lambda: next(ticks))
    run.begin_fit(AnyFit())
    with capture_logs() as logs:
        for step in (1, 2):
            assert isinstance(run.saves.save(snapshot(step)), Written)
    run.close()
    warnings = [log for log in logs if log["event"] == events.SAVE_SLOW]
    assert len(warnings) == warned
    if warned:
        assert warnings[0]["seconds"] >= 100
        assert "--save-every" in warnings[0]["fix"]


class Call:
    """A fit that runs until it is told to have ended."""

    def __init__(self):
        self.running = True

    def is_running(self):
        return self.running


def test_training_in_any_thread():
    """A fit counts while it runs; one that an exception has ended does not, though it says so."""
    state, one, other = PreemptionState(), Call(), Call()
    assert not state.training
    state.fit_begins(one)
    state.fit_begins(other)
    one.running = False
    assert state.training
    state.fit_ends(other)
    assert not state.training


def test_the_first_end_decides_unless_a_notice_comes():
    """Of several ends, a preemption decides; otherwise the first one."""
    state = PreemptionState()
    state.record_end(Fenced())
    state.record_end(Refused())
    assert isinstance(state.end, Fenced)
    state.record_end(Preempted(3, saved=True))
    state.record_end(Refused())
    assert isinstance(state.end, Preempted)


def test_no_fit_begins_after_a_preemption():
    """The script may swallow the exception and go on; the next fit raises it again."""
    state = PreemptionState()
    state.record_end(Refused())
    state.check()
    with pytest.raises(Preempted), state.recording_end():
        raise Preempted(3, saved=True)
    with pytest.raises(Preempted):
        state.check()


def test_an_exception_of_the_script_is_no_end():
    """Only keepfit's own exceptions end the attempt."""
    state = PreemptionState()
    with pytest.raises(SystemExit), state.recording_end():
        raise SystemExit(0)
    assert state.end is None


def test_a_policy_measures_the_time_between_boundaries():
    """The next batch is expected to take as long as the one before."""
    times = iter([0.0, 10.0, 20.0, 20.5])
    state = PreemptionState()
    policy = PreemptionPolicy(state, lambda: next(times))
    policy.observe_boundary()
    assert not policy.must_exit(0.0)
    state.give_notice(Notice("spot", deadline=34.0, training_allowed=True))
    policy.observe_boundary()
    assert [policy.must_exit(0.0) for _ in range(3)] == [True] * 3
    policy.observe_boundary()
    assert not policy.must_exit(0.0)


def test_only_a_preemption_is_announced():
    """The main thread is interrupted for a notice, not for a refusal in some other thread."""
    state, announced = PreemptionState(), []
    state.on_preemption(lambda: announced.append(state.end))
    state.record_end(Refused())
    assert announced == []
    end = Preempted(3, saved=True)
    state.record_end(end)
    assert announced == [end]


LIMIT = Notice("--max-hours 2", limit=True)


@pytest.mark.parametrize(
    ("notices", "kind", "source"),
    [
        ([SPOT], Preempted, "spot"),
        ([Notice("SIGTERM", deadline=1000.0)], Preempted, "SIGTERM"),
        ([LIMIT], LimitReached, "--max-hours 2"),
        ([SPOT, LIMIT], LimitReached, "--max-hours 2"),
        ([LIMIT, SPOT], LimitReached, "--max-hours 2"),
        ([Notice("SIGINT"), LIMIT], LimitReached, "--max-hours 2"),
        ([LIMIT, Notice("SIGTERM", deadline=1000.0)], LimitReached, "--max-hours 2"),
    ],
)
def test_a_limit_decides_whichever_notice_came_first(notices, kind, source):
    """The next attempt would train nothing, so the exit code must not be one that is retried."""
    state = PreemptionState()
    for notice in notices:
        state.give_notice(notice)
    end = state.end_of_attempt(7, saved=False)
    assert type(end) is kind
    assert (end.code, end.step, end.saved) == (79 if kind is LimitReached else 75, 7, False)
    assert state.notice.source == source
    assert must_leave(state.notice, 0.0, save_seconds=1.0, boundary_interval=0.1) is (
        notices != [SPOT]
    )
    assert state.ends_process is (notices != [LIMIT])


def test_a_limit_stays_the_end():
    """A signal that arrives while the attempt ends at a limit does not make it a preemption."""
    state = PreemptionState()
    state.record_end(LimitReached(3))
    state.record_end(Preempted(3))
    assert state.end.code == 79
    with pytest.raises(LimitReached):
        state.check()
