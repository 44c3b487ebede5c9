"""The decision that a training has stalled."""

from __future__ import annotations

import pytest

from keepfit.job.notifications.stall import (
    LONGEST_GAP,
    NotTraining,
    StallDetector,
    Stalled,
    Training,
    next_state,
)


@pytest.mark.parametrize(
    ("state", "events", "elapsed", "after"),
    [
        (NotTraining(), None, 1.0, NotTraining()),
        (NotTraining(), 3, 1.0, Training(3)),
        (Training(3, 4.0), 3, 1.0, Training(3, 5.0)),
        (Training(3, 9.5), 3, 1.0, Stalled(3)),
        (Training(3, 9.5), 4, 1.0, Training(4)),
        (Training(3, 9.5), None, 1.0, NotTraining()),
        (Stalled(3), 3, 1.0, Stalled(3)),
        (Stalled(3), 4, 1.0, Training(4)),
        (Stalled(3), None, 1.0, NotTraining()),
    ],
)
def test_states(state, events, elapsed, after):
    """Only a fit under way stalls; each event of its training begins the time anew."""
    assert next_state(state, events, elapsed, limit=10.0) == after


def test_a_process_that_was_stopped():
    """Hours in which nothing was observed count as seconds: the training had no chance to go on."""
    assert next_state(Training(3), 3, 7200.0, limit=60.0) == Training(3, LONGEST_GAP)


def test_a_stall_is_reported_once():
    """Until the training goes on; then the next stall is reported."""
    now = 0.0
    detector = StallDetector(3.0, lambda: now)
    reports = []
    for events in [None, None, 1, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3, None, None, None, None]:
        now += 1.0
        if detector.has_just_stalled(events):
            reports.append((now, events))
    assert reports == [(6.0, 1), (15.0, 3)]
