"""Fits are told apart by their names, else by what they ask for, else by their order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.callbacks.checkpoint.format.fit_record import FitRecord
from keepfit.callbacks.identity.fits import FitMatch, KnownFits, MatchedBy, match_fit


def digest(number):
    return f"{number:032x}"


def fit(data=0, *, site="train#0", model=0, name=None, iterations=0, weights=0, unknown=()):
    """Return the identity of a fit; None for data that can't be known."""
    return FitRecord(
        name=name,
        site=site,
        model=digest(model),
        data=None if data is None else digest(data),
        unknown=unknown,
        iterations=iterations,
        weights=digest(weights),
    )


FOLDS = {index: fit(index) for index in range(3)}
EQUAL = {0: fit(weights=1), 1: fit(weights=2)}
LOOP = {index: fit(iterations=8 * index, weights=index) for index in range(3)}

TABLE = {
    "the first fit of a run": (fit(), KnownFits(), FitMatch(0, MatchedBy.NOTHING)),
    "an interrupted fold": (
        fit(2),
        KnownFits(FOLDS, finished=[0, 1]),
        FitMatch(2, MatchedBy.EQUAL),
    ),
    "a finished fold": (fit(0), KnownFits(FOLDS, finished=[0, 1]), FitMatch(0, MatchedBy.EQUAL)),
    "a fold after those that were skipped": (
        fit(3),
        KnownFits(FOLDS, finished=[0, 1, 2]),
        FitMatch(3, MatchedBy.NOTHING),
    ),
    "other data while the only fit is interrupted": (
        fit(1),
        KnownFits({0: fit(0)}),
        FitMatch(0, MatchedBy.CHANGED),
    ),
    "another place while the only fit is interrupted": (
        fit(0, site="other#0"),
        KnownFits({0: fit(0)}),
        FitMatch(1, MatchedBy.NOTHING),
    ),
    "another place in a changed script": (
        fit(0, site="other#0"),
        KnownFits({0: fit(0)}, script_changed=True),
        FitMatch(0, MatchedBy.CHANGED),
    ),
    "another fit while one of several is interrupted": (
        fit(7),
        KnownFits(FOLDS, finished=[0, 1]),
        FitMatch(3, MatchedBy.NOTHING),
    ),
    "another fit after the only one is finished": (
        fit(1),
        KnownFits({0: fit(0)}, finished=[0]),
        FitMatch(1, MatchedBy.NOTHING),
    ),
    "the second equal fit": (
        fit(),
        KnownFits({0: fit()}, finished=[0], begun=[0]),
        FitMatch(1, MatchedBy.NOTHING, ambiguous=True),
    ),
    "equal fits of an interrupted run": (
        fit(weights=1),
        KnownFits(EQUAL, finished=[0]),
        FitMatch(0, MatchedBy.ORDER, ambiguous=True),
    ),
    "equal fits, the first of which is begun": (
        fit(weights=9),
        KnownFits(EQUAL, finished=[0], begun=[0]),
        FitMatch(1, MatchedBy.ORDER, ambiguous=True),
    ),
    "a model that is trained on": (
        fit(iterations=8),
        KnownFits({0: fit()}, finished=[0], begun=[0]),
        FitMatch(1, MatchedBy.NOTHING),
    ),
    "the first of a model that is trained on": (
        fit(iterations=0, weights=0),
        KnownFits(LOOP, finished=[0, 1]),
        FitMatch(0, MatchedBy.EQUAL),
    ),
    "a model that the script has loaded": (
        fit(iterations=16, weights=5),
        KnownFits(LOOP, finished=[0, 1]),
        FitMatch(2, MatchedBy.EQUAL),
    ),
    "other weights before the first step": (
        fit(iterations=0, weights=5),
        KnownFits(LOOP, finished=[0, 1]),
        FitMatch(0, MatchedBy.EQUAL, ambiguous=True),
    ),
    "after a final state that was dropped": (
        fit(iterations=None),
        KnownFits(LOOP, finished=[0, 1], begun=[0]),
        FitMatch(1, MatchedBy.ORDER),
    ),
    "a finished fit whose result the script trains further": (
        fit(iterations=8),
        KnownFits({0: fit()}, finished=[0]),
        FitMatch(1, MatchedBy.NOTHING),
    ),
    "an interrupted fit that the script continues from its own file": (
        fit(iterations=24),
        KnownFits({0: fit()}),
        FitMatch(0, MatchedBy.EQUAL),
    ),
    "data that can't be known": (
        fit(None),
        KnownFits({0: fit(None)}),
        FitMatch(0, MatchedBy.EQUAL),
    ),
    "a finished fit with data that can't be known": (
        fit(None),
        KnownFits({0: fit(None)}, finished=[0]),
        FitMatch(0, MatchedBy.EQUAL, ambiguous=True),
    ),
    "a finished fit with data of which a part can't be known": (
        fit(unknown=("a Python function",)),
        KnownFits({0: fit(unknown=("a Python function",))}, finished=[0]),
        FitMatch(0, MatchedBy.EQUAL, ambiguous=True),
    ),
    "a name, with data that can't be known": (
        fit(None, name="a"),
        KnownFits({0: fit(None, name="a")}, finished=[0]),
        FitMatch(0, MatchedBy.EQUAL),
    ),
    "a name": (
        fit(5, name="fold-1", model=9),
        KnownFits({0: fit(name="fold-0"), 1: fit(name="fold-1")}, finished=[0, 1]),
        FitMatch(1, MatchedBy.EQUAL),
    ),
    "a new name": (fit(name="b"), KnownFits({0: fit(name="a")}), FitMatch(1, MatchedBy.NOTHING)),
    "a run of keepfit 0.1": (
        fit(),
        KnownFits(finished=[0, 1], begun=[0], by_number=True),
        FitMatch(1, MatchedBy.NUMBER),
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_match(case):
    """A call of fit is found among the fits of its run."""
    asked, known, expected = TABLE[case]
    assert match_fit(asked, known) == expected


def test_a_library_that_asks_for_another_fit():
    """A tuner draws other configurations in each process: none is the interrupted one, changed."""
    match = match_fit(fit(model=1), KnownFits({0: fit()}), may_be_changed=False)
    assert match == FitMatch(1, MatchedBy.NOTHING)


FITS = st.builds(
    fit,
    st.integers(0, 2),
    site=st.sampled_from(["a#0", "b#0"]),
    model=st.integers(0, 1),
    iterations=st.sampled_from([0, 8]),
)


@given(fits=st.lists(FITS, unique=True, max_size=8), data=st.data())
def test_scripts_that_skip_and_scripts_that_repeat(fits, data):
    """An interrupted script, whichever of its finished fits it skips, gets its own fits."""
    known = KnownFits()
    for index, asked in enumerate(fits):
        match = match_fit(asked, known)
        assert match == FitMatch(index, MatchedBy.NOTHING)
        known = KnownFits({**known.records, index: asked}, [*known.finished, index])
    finished = data.draw(st.integers(0, len(fits)))
    skipped = data.draw(st.sets(st.integers(0, finished - 1))) if finished else set()
    begun: list[int] = []
    for index, asked in enumerate(fits):
        if index in skipped:
            continue
        match = match_fit(asked, KnownFits(known.records, range(finished), begun))
        assert match.index == index
        begun.append(index)


@given(known=st.dictionaries(st.integers(0, 5), FITS, max_size=6), asked=FITS, data=st.data())
def test_only_fits_that_ask_for_the_same(known, asked, data):
    """A call never gets a fit that this process has begun, or one with other data."""
    indexes = st.sets(st.sampled_from(sorted(known))) if known else st.just(set())
    finished, begun = data.draw(indexes), data.draw(indexes)
    match = match_fit(asked, KnownFits(known, finished, sorted(begun)))
    assert match.index not in begun
    if match.by in (MatchedBy.EQUAL, MatchedBy.ORDER):
        assert known[match.index].data == asked.data
        assert known[match.index].model == asked.model
    if match.is_new:
        assert match.index not in known
