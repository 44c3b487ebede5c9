"""The trace of an attempt: written line by line, read as a course and as final states."""

from __future__ import annotations

from keepfit.job.drill.moments import Course, EpochCourse, Hook, Place
from keepfit.job.drill.traces import (
    TraceWriter,
    course_of,
    ends_of,
    printed_in_fits,
    read_records,
    starts_of,
)


def end(fit, digest, *, trained=True, printed=10):
    return {
        "kind": "fit_end",
        "fit": fit,
        "place": "train.py:7",
        "variables": {"kernel": digest},
        "generators": {},
        "trained": trained,
        "printed": printed,
    }


def test_a_course_is_read_as_it_was_written(tmp_path):
    """With two fits, the second one ended in its first epoch."""
    path = tmp_path / "trace"
    trace = TraceWriter(str(path))
    until = Place(1, 0, Hook.BATCH_END, 0)
    trace.write("fit", fit=0, printed=0)
    trace.write("epoch", epoch=0)
    trace.write("batch", batch=0)
    trace.write("batch", batch=1)
    trace.write("save")
    trace.write("validation", batch=0)
    trace.write("epoch_end", epoch=0)
    trace.write("fit", fit=1, printed=5)
    trace.write("epoch", epoch=0)
    trace.write("batch", batch=0)
    trace.write("until", at=until.as_list())
    whole = (EpochCourse(0, (0, 1), (0,)),)
    begun = (EpochCourse(0, (0,), ended=False),)
    assert course_of(read_records(path)) == Course((whole, begun), 1, until)


def test_an_attempt_that_has_not_begun_has_no_trace(tmp_path):
    """It may have been killed before."""
    assert list(read_records(tmp_path / "none")) == []


def test_a_fit_that_is_passed_over_keeps_its_record():
    """Its variables may not be restored; a fit that is trained again replaces its record."""
    attempts = [[end(0, "a"), end(1, "b")], [end(0, "?", trained=False), end(1, "B"), end(2, "c")]]
    ends = ends_of(attempts)
    assert {fit: state.variables["kernel"] for fit, state in ends.items()} == {
        0: "a",
        1: "B",
        2: "c",
    }
    assert ends_of([[end(0, "only", trained=False)]])[0].variables == {"kernel": "only"}


def test_starts_are_only_those_that_were_recorded():
    """An interrupted run records none."""
    start = {**end(0, "a"), "kind": "start"}
    assert list(starts_of([{"kind": "fit"}, start, end(1, "b")])) == [0]


def test_what_was_printed_in_fits():
    """From the begin of each fit to its end; one that was left by an error has no end."""
    fits = [{"kind": "fit", "printed": at} for at in (5, 20, 40)]
    records = [fits[0], end(0, "a", printed=15), fits[1], fits[2], end(1, "b", printed=50)]
    assert printed_in_fits(records) == [(5, 15), (40, 50)]
    assert printed_in_fits([fits[0], end(0, "a", printed=None)]) == []
