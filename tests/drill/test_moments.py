"""The choice of moments: each kind that a training has, before the place where it is compared."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.job.drill.moments import (
    Choice,
    Course,
    EpochCourse,
    Hook,
    Kind,
    Moment,
    Place,
    choose,
    pick,
)


def epochs(count, batches=8, validation=0):
    return tuple(
        EpochCourse(epoch, tuple(range(batches)), tuple(range(validation)))
        for epoch in range(count)
    )


WHOLE = Course((epochs(3, validation=2), epochs(2)), saves=5)


def kinds(course):
    return {moment.kind for moment in choose(course).moments}


@pytest.mark.parametrize(
    ("course", "missing"),
    [
        (WHOLE, set()),
        (replace(WHOLE, saves=0), {Kind.DURING_SAVE}),
        (Course((epochs(3),), 1), {Kind.VALIDATION, Kind.BETWEEN_FITS}),
        (Course((epochs(1, validation=1),), 1), {Kind.BETWEEN_EPOCHS, Kind.BETWEEN_FITS}),
        (
            Course((epochs(2, batches=2),), 1),
            {Kind.WITHIN_EPOCH, Kind.VALIDATION, Kind.BETWEEN_FITS},
        ),
        (
            Course((epochs(1, batches=1),), 1),
            set(Kind) - {Kind.FIRST_BATCH, Kind.LAST_BATCH, Kind.DURING_SAVE},
        ),
        (Course(((),), 0), set(Kind)),
        (Course((), 0), set(Kind)),
    ],
)
def test_a_kind_that_the_script_does_not_have_is_missing(course, missing):
    """And the choice says why."""
    choice = choose(course)
    assert set(choice.missing) == missing
    assert kinds(course) == set(Kind) - missing
    assert all(choice.missing.values())


def test_moments_are_where_their_kind_says():
    """For a training with two fits of three and two epochs."""
    places = {moment.kind: moment.place for moment in choose(WHOLE).moments}
    assert places[Kind.FIRST_BATCH] == Place(0, 0, Hook.BATCH_END, 0)
    assert places[Kind.WITHIN_EPOCH].batch == 4
    assert places[Kind.LAST_BATCH].batch == 7
    assert places[Kind.VALIDATION] == Place(0, 1, Hook.VALIDATION_BATCH_END, 1)
    assert places[Kind.BETWEEN_EPOCHS].hook is Hook.EPOCH_END
    assert places[Kind.BETWEEN_FITS] == Place(1, 0, Hook.FIT_BEGIN)
    assert places[Kind.NOTICE] < WHOLE.batches()[-1]


def test_the_last_epoch_of_a_fit_is_not_between_epochs():
    """With two epochs, only the end of the first one is."""
    place = {m.kind: m.place for m in choose(Course((epochs(2),), 1)).moments}[Kind.BETWEEN_EPOCHS]
    assert place.epoch == 0


def test_an_epoch_under_way_has_no_last_batch():
    """Where the course was ended in an epoch."""
    course = Course(((EpochCourse(0, (0, 1, 2), ended=False),),), 1)
    assert Kind.LAST_BATCH in choose(course).missing


def test_pick_avoids_taken_places():
    """Unless all are taken."""
    places = [Place(0, 0, Hook.BATCH_END, batch) for batch in range(3)]
    assert pick(places, 0.5, set()) == places[1]
    assert pick(places, 0.5, {places[1]}) == places[2]
    assert pick(places, 0.9, {places[2]}) == places[1]
    assert pick(places, 0.5, set(places)) == places[1]
    assert pick([], 0.5, set()) is None


def courses():
    epoch = st.builds(
        lambda calls, size, validation: (tuple(range(size - 1, calls * size, size)), validation),
        st.integers(0, 6),
        st.integers(1, 3),
        st.integers(0, 3),
    )
    fit = st.lists(epoch, max_size=4).map(
        lambda parts: tuple(
            EpochCourse(i, batches, tuple(range(validation)))
            for i, (batches, validation) in enumerate(parts)
        )
    )
    return st.builds(Course, st.lists(fit, max_size=3).map(tuple), st.integers(0, 2))


def places_of(course):
    """Return all places of a course, as training reaches them."""
    found = []
    for fit, parts in enumerate(course.fits):
        found.append(Place(fit, 0, Hook.FIT_BEGIN))
        for each in parts:
            found += [Place(fit, each.epoch, Hook.BATCH_END, b) for b in each.batches]
            found += [Place(fit, each.epoch, Hook.VALIDATION_BATCH_END, b) for b in each.validation]
            found.append(Place(fit, each.epoch, Hook.EPOCH_END))
    return found


@given(courses(), st.data())
@settings(max_examples=150, deadline=None)
def test_each_moment_is_reached_before_the_end(course, data):
    """In order, one of each kind; and each kind is chosen or missing."""
    places = places_of(course)
    assert places == sorted(places)
    until = data.draw(st.sampled_from([None, *places]))
    course = replace(course, until=until)
    choice = choose(course)
    chosen = [moment.place for moment in choice.moments]
    assert chosen == sorted(chosen)
    assert set(chosen) <= set(places)
    assert until is None or all(place < until for place in chosen)
    found = [moment.kind for moment in choice.moments]
    assert sorted([*found, *choice.missing]) == sorted(Kind)


@given(st.sampled_from(list(Kind)), st.integers(0, 9), st.sampled_from(list(Hook)))
def test_a_moment_is_the_same_after_json(kind, number, hook):
    """It is passed to the process that interrupts itself."""
    moment = Moment(kind, Place(number, number + 1, hook, number + 2))
    assert Moment.of_json(moment.as_json()) == moment


def test_a_choice_can_be_limited_to_some_kinds():
    """As --at does it."""
    choice = choose(WHOLE, (Kind.NOTICE, Kind.VALIDATION))
    assert [moment.kind for moment in choice.moments] == [Kind.VALIDATION, Kind.NOTICE]
    assert choice == Choice(choice.moments, {})
