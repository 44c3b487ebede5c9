"""The record of an attempt while it runs."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import numpy as np
import pytest

from keepfit.callbacks.checkpoint.format.position import Position
from keepfit.callbacks.journal.document import (
    MAX_EPOCHS,
    MAX_FITS,
    MAX_SAVES,
    Journal,
    Machine,
    Previous,
)
from keepfit.callbacks.journal.goodput import Parts
from keepfit.callbacks.journal.recorder import AttemptFacts, JournalRecorder, previous_entry
from keepfit.callbacks.journal.terms import Activity, ProcessEnd, Reason
from keepfit.callbacks.journal.time_account import ProcessStart
from keepfit.callbacks.logs.words import PARTS

START = ProcessStart(time.monotonic(), datetime(2026, 11, 28, tzinfo=UTC))


def recorder(notices=(), machine=Machine):
    """Return the recorder of an attempt that has claimed its run."""
    new = JournalRecorder(START, Activity.STARTUP, machine, lambda: notices)
    new.fit_asked()
    new.claimed(AttemptFacts("run", 2, {"keras": "3.15"}, ("--lr", "1"), None))
    return new


def stored(recording: JournalRecorder) -> Journal:
    """Return the journal as a reader gets it."""
    journal = recording.journal()
    assert journal is not None
    return Journal.from_bytes(journal.to_bytes())


def save(recording: JournalRecorder, step: int) -> None:
    recording.saved(recording.captured(step), Position(step=step), 0.1, 100, last=False)


def test_no_journal_before_the_claim():
    """A process that does not belong to the run has written nothing."""
    assert JournalRecorder(START, Activity.STARTUP, Machine, tuple).journal() is None


def test_a_whole_attempt():
    """All that happened is in the journal, in the order in which it happened."""
    recording = recorder(machine=lambda: Machine(host="vm", hourly_price=0.5))
    recording.switch(Activity.RESTORE)
    recording.fit_trains(1, 40, resumed=True)
    recording.switch(Activity.STARTUP)
    recording.switch(Activity.TRAINING)
    save(recording, 50)
    recording.epoch_ended(1, 3, 60, {"loss": 0.5, "nan": float("nan"), "bits": np.float32(0.25)})
    recording.ended(Reason.FAILED, 61, 1, "ValueError:\n  a bad value")
    recording.ended(Reason.FINISHED, 70, 0)  # the first reason counts
    journal = stored(recording)
    assert (journal.run, journal.attempt, journal.arguments) == ("run", 2, ("--lr", "1"))
    assert journal.machine == Machine(host="vm", hourly_price=0.5)
    (fit,), (saved,), (epoch,) = journal.fits, journal.saves, journal.epochs
    assert (fit.fit, fit.step, fit.resumed) == (1, 40, True)
    assert (saved.step, saved.size, journal.save_bytes) == (50, 100, 100)
    assert (epoch.epoch, epoch.step, epoch.metrics["loss"], epoch.metrics["bits"]) == (
        *(3, 60, 0.5),
        0.25,
    )
    assert np.isnan(epoch.metrics["nan"])
    assert journal.end is not None
    assert (journal.end.reason, journal.end.step, journal.end.exit_code) == (Reason.FAILED, 61, 1)
    assert journal.end.detail == "ValueError: a bad value"
    moments = [journal.imported, journal.claimed, fit.at, journal.first_batch, saved.at, epoch.at]
    assert moments == sorted(moments)
    assert epoch.at <= journal.end.at == journal.written.at


def test_metrics_that_are_no_numbers_are_left_out():
    """Keras' logs may contain anything, which must not damage a journal."""
    recording = recorder()
    recording.epoch_ended(0, 0, 1, {"": 1.0, "x" * 2000: 1.0, "matrix": np.eye(2), "loss": 1})
    assert stored(recording).epochs[0].metrics == {"loss": 1.0}
    recording.epoch_ended(0, 1, 2, {f"m{n}": 1.0 for n in range(1000)})
    assert len(stored(recording).epochs[1].metrics) == 200


def test_entries_are_bounded():
    """A long attempt keeps the first entry and the newest ones, and right sums."""
    recording = recorder()
    count = 2 * MAX_EPOCHS + 300
    for step in range(count):
        save(recording, step)
        recording.epoch_ended(0, step, step, {})
        recording.fit_trains(step, step, resumed=False)
    journal = stored(recording)
    assert (journal.save_count, journal.save_bytes) == (count, 100 * count)
    assert journal.epoch_count == count
    for entries, limit in (
        (journal.saves, MAX_SAVES),
        (journal.epochs, MAX_EPOCHS),
        (journal.fits, MAX_FITS),
    ):
        steps = [entry.step for entry in entries]
        assert limit // 3 < len(steps) <= limit
        assert steps[0] == 0
        assert steps[-40:] == [*range(count - 40, count)]
        assert steps == sorted(set(steps))


def test_a_notice_that_is_given_twice_is_one():
    """A signal is recorded by its thread and by its handler."""
    begun = START.monotonic
    given = [("SIGTERM", begun + 5, begun + 35), ("SIGTERM", begun + 6, begun + 36)]
    recording = recorder(notices=[*given, ("spot", begun + 7, None)])
    first, second = stored(recording).notices
    assert (first.source, first.at, first.deadline) == pytest.approx(("SIGTERM", 5, 35))
    assert (second.source, second.at, second.deadline) == ("spot", pytest.approx(7), None)


def test_the_end_of_the_process_before():
    """What has watched it knows it; the attempt itself could not write it."""
    begun, ended = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    end = ProcessEnd(begun, ended, Reason.KILLED, "killed by SIGKILL")
    assert previous_entry(end, 1) == Previous(
        attempt=1, started=begun, ended=ended, reason=Reason.KILLED, detail="killed by SIGKILL"
    )


def test_the_log_hides_the_parts_of_goodput():
    """Its line has those that matter."""
    assert tuple(Parts().seconds()) == PARTS
