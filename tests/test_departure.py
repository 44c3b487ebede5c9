"""When training goes on after a notice, and when it leaves: arithmetic."""

from __future__ import annotations

import pytest

from callbacks.departure import leaves, reserve
from callbacks.session import Notice

SPOT = Notice("spot", deadline=1000.0, trains_on=True)


@pytest.mark.parametrize(("saving", "kept"), [(0.0, 5.0), (2.0, 8.0), (60.0, 95.0)])
def test_what_is_kept_for_the_last_save(saving, kept):
    """Half as much again as a save has taken, and five seconds to end."""
    assert reserve(saving) == kept


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
    assert leaves(SPOT, now, saving=saving, pace=pace) is leaving


@pytest.mark.parametrize("notice", [Notice("SIGINT"), Notice("SIGTERM", deadline=1000.0)])
def test_others_leave_at_once(notice):
    """With the first save, however much time there is."""
    assert leaves(notice, 0.0, saving=1.0, pace=0.1)


def test_no_deadline_is_no_time():
    """Who does not know how long it may train saves what there is."""
    assert leaves(Notice("spot", trains_on=True), 0.0, saving=1.0, pace=0.1)
