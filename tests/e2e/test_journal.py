"""The journals of a run that is interrupted in every way, against a clock outside of it."""

from __future__ import annotations

import signal
import threading
from datetime import UTC, datetime, timedelta

import pytest

from keepfit.callbacks.journal.goodput import measure
from keepfit.callbacks.journal.read import read_journals
from keepfit.callbacks.journal.terms import Reason
from keepfit.callbacks.storage.local import LocalStore
from tests.e2e.cases import OFTEN, STEPS, give_spot_notice, stopped, stopping, write
from tests.e2e.process import run

SCRIPT = """
class Fail(Stateless):
    def on_train_batch_end(self, batch, logs=None):
        if os.environ.get("FAIL"):
            raise ValueError("a bad value")

model = build()
fit(model, Fail())
"""
TICK = timedelta(seconds=0.05)
"""The kernel counts the start of a process in hundredths of a second."""


def now():
    return datetime.now(UTC)


def saves_in_journal(folder):
    """Return the number of saves in the journal of the first attempt."""
    (journal,) = read_journals(LocalStore(folder / "runs"), "train").journals
    return len(journal.saves)


def interrupted(folder):
    """Interrupt the run by SIGKILL, a Spot notice, SIGTERM and an error; then let it finish."""
    once = ("--deterministic", "--save-every", "6 batches")
    with stopping(write(folder, SCRIPT), *once, at=7) as attempt:
        attempt.until_all("moment\n", '"step": 6,')
        while not saves_in_journal(folder):  # it is written after the save, by another thread
            threading.Event().wait(0.05)
        attempt.kill()
    watched = folder / "notice"
    with stopped(folder, *OFTEN, "--on-notice", "leave", "--watch", watched, at=4) as attempt:
        give_spot_notice(watched)
        attempt.process.until_event("notice")
        attempt.go_on()
        assert attempt.process.wait().code == 75
    watched.unlink()
    with stopped(folder, *OFTEN, at=4) as attempt:
        assert attempt.end(signal.SIGTERM).code == 75
    assert run(folder, *OFTEN, "train.py", FAIL="1").code == 1
    return run(folder, *OFTEN, "train.py")


def test_the_parts_of_the_time_add_up(tmp_path):
    """To the time of a clock outside; what is not known is said to be unknown."""
    began = now()
    finished = interrupted(tmp_path)
    ended = now()
    assert finished.code == 0, finished.err
    found = read_journals(LocalStore(tmp_path / "runs"), "train")
    assert not found.unreadable
    first, last = found.journals[0], found.journals[-1]
    first_start = first.process_started
    last_end = last.process_started + timedelta(seconds=last.end.at)
    assert began - TICK <= first_start <= began + (ended - began) / 2
    assert last_end <= ended + TICK

    goodput = measure(found.journals)
    assert goodput.overlap == 0
    assert goodput.parts.total == pytest.approx((last_end - first_start).total_seconds(), abs=1e-3)
    assert finished.one("goodput")["productive"] == round(goodput.parts.shares()["productive"], 4)
    assert [each.reason for each in goodput.attempts] == [
        None,
        *[Reason.PREEMPTED] * 2,
        Reason.FAILED,
        Reason.FINISHED,
    ]
    assert found.journals[3].end.detail == "ValueError: a bad value"
    assert [bool(each.parts.unknown) for each in goodput.attempts] == [True] + [False] * 4
    assert [[n.source for n in each.notices] for each in found.journals[1:4]] == [
        [str(tmp_path / "notice")],
        ["SIGTERM"],
        [],
    ]
    kept = [each.kept_step for each in goodput.attempts]
    assert kept == sorted(kept)
    assert kept[0] == 6
    assert kept[-1] == STEPS
    resumed = [each.fits[0].step for each in found.journals]
    assert resumed == [0, *kept[:-1]]
