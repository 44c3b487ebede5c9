"""The differences of two outcomes, the first one that training has made first; and their cause."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.job.drill.compare.causes import Comparison, probable_cause
from keepfit.job.drill.compare.differences import Difference, differences, listed
from keepfit.job.drill.compare.outcome import Outcome, Warned
from keepfit.job.drill.compare.output import LINES
from tests.drill.samples import outcome, state

HISTORY = {"loss": ["3.0", "2.1"], "val_loss": ["3.5", "2.4"]}
VARIABLES = {"model/kernel": "a", "model/bias": "B", "optimizer/momentum": "C"}


@pytest.mark.parametrize(
    ("found", "first"),
    [
        (
            outcome(state(0, history=HISTORY), state(1)),
            "fit 1, epoch 2, history: loss, val_loss (2.0 became 2.1)",
        ),
        (
            outcome(state(0), state(1, variables=VARIABLES)),
            "fit 2, variables: model/bias, optimizer/momentum (2 of 3 variables at its end)",
        ),
        (
            outcome(state(0), state(1, history={"loss": ["3.0"], "val_loss": ["3.5"]})),
            "fit 2, epoch 2, history: loss, val_loss (2.0 became none)",
        ),
        (
            outcome(state(0), state(1, epochs=(0, 1, 2))),
            "fit 2, history: epochs (2 epochs became 3)",
        ),
        (outcome(state(0)), "fit 2, fits: fit 2 (one run has not come to its end)"),
        (
            outcome(state(0), state(1), state(2)),
            "fit 3, fits: fit 3 (only one run has it)",
        ),
        (outcome(files={"log.csv": {"line 1": "x"}}), "files: log.csv (line 2)"),
        (outcome(output=()), "output: standard output (missing, or in another order: 'done')"),
    ],
)
def test_the_first_difference(found, first):
    """It names the fit, the epoch, and what differs."""
    assert str(differences(outcome(), found)[0]) == first


@pytest.mark.parametrize(
    ("files", "detail"),
    [
        ({"log.csv": {"line 1": "x", "line 2": "y"}}, "missing"),
        (
            {**outcome().files, "new.txt": {"line 1": "q"}},
            "an uninterrupted run does not write it",
        ),
        ({**outcome().files, "best.keras": {"config.json": "!"}}, "config.json"),
    ],
)
def test_files_that_differ(files, detail):
    """A missing one, one too many, or a part of one."""
    (found,) = differences(outcome(), outcome(files=files))
    assert found.detail == detail


def test_differences_are_in_the_order_of_training():
    """A later fit does not hide an earlier one, nor files what has made them differ."""
    found = outcome(
        state(0, variables=VARIABLES), state(1, history=HISTORY), files={}, output=("failed",)
    )
    names = [(each.what, each.fit) for each in differences(outcome(), found)]
    expected = [("variables", 0), ("history", 1), ("files", None), ("files", None)]
    assert names == [*expected, ("output", None)]


def test_random_generators_are_no_result():
    """They only explain one: keepfit may create a generator that nothing has used."""
    assert differences(outcome(), outcome(state(0, generators={}), state(1))) == []


def test_many_names_are_counted():
    """The first three are named."""
    assert listed(("a", "b", "c")) == "a, b, c"
    assert listed(("a", "b", "c", "d", "e")) == "a, b, c and 2 more"


texts = st.dictionaries(st.text("abc", min_size=1, max_size=2), st.text("xy", max_size=2))
states = st.builds(
    lambda history, variables: replace(
        state(), history={k: list(v) for k, v in history.items()}, variables=variables
    ),
    texts,
    texts,
)
outcomes = st.builds(
    lambda end, files, lines: Outcome({0: end}, files={"f": files}, output=tuple(lines)),
    states,
    texts,
    st.lists(st.text("xy", max_size=2), max_size=3),
)


def is_part(lines, more):
    """Return whether all lines are in `more`, in their order."""
    rest = iter(more)
    return all(line in rest for line in lines)


@given(outcomes, outcomes)
def test_no_difference_if_and_only_if_equal(one, two):
    """Of any two outcomes: each part is looked at."""
    compared = lambda each: (  # noqa: E731
        {name: column for name, column in each.ends[0].history.items() if column},
        each.ends[0].variables,
        each.files,
    )
    same = compared(one) == compared(two) and is_part(one.output, two.output)
    assert (differences(one, two) == []) == same
    assert differences(one, one) == []


@pytest.mark.parametrize(
    ("printed", "same"),
    [
        (("reloading", "a", "b"), True),
        (("a", "reloading", "b", "end"), True),
        (("b", "a"), False),
        (("a",), False),
        (("A", "b"), False),
    ],
)
def test_a_resumed_attempt_may_print_more(printed, same):
    """A library says that it continues; but each line of the uninterrupted run has to come."""
    found = differences(outcome(output=("a", "b")), outcome(output=printed))
    assert (found == []) == same


def test_only_the_last_lines_are_compared():
    """What is printed before them may differ."""
    last = tuple(f"line {i}" for i in range(LINES))
    assert differences(outcome(output=("x", *last)), outcome(output=("y", *last))) == []
    assert differences(outcome(output=("x", *last[1:])), outcome(output=("y", *last[1:])))


def compare(expected, found, *, interrupted=True, deterministic=True):
    return Comparison(
        expected,
        found,
        differences(expected, found),
        interrupted=interrupted,
        deterministic=deterministic,
    )


OTHER = outcome(state(0, history=HISTORY), state(1))


@pytest.mark.parametrize(
    ("comparison", "cause"),
    [
        (compare(outcome(), OTHER), "state in the process that keepfit does not know"),
        (
            compare(
                outcome(),
                replace(OTHER, warnings=(Warned("data_unsavable", "a generator", "tf.data"),)),
            ),
            "a generator (tf.data) [data_unsavable]",
        ),
        (compare(outcome(), outcome(files={})), "the script writes this file itself"),
        (compare(outcome(), outcome(output=())), "the script prints something that is not kept"),
        (
            compare(outcome(), OTHER, interrupted=False, deterministic=False),
            "leave --no-deterministic out",
        ),
        (
            compare(outcome(), OTHER, interrupted=False),
            "a generator without a seed",
        ),
        (
            compare(
                outcome(starts={0: state(0)}),
                replace(OTHER, starts={0: state(0, generators={"python": "p", "numpy": "!"})}),
                interrupted=False,
            ),
            "the random generators differ when the fit begins (numpy)",
        ),
        (
            compare(
                outcome(starts={0: state(0)}),
                replace(OTHER, starts={0: state(0, variables=VARIABLES)}),
                interrupted=False,
            ),
            "the variables differ when the fit begins",
        ),
        (compare(outcome(), outcome(files={}), interrupted=False), "--ignore"),
        (
            compare(outcome(), outcome(output=()), interrupted=False),
            "prints something that differs in each run",
        ),
    ],
)
def test_the_probable_cause(comparison, cause):
    """By what differs first, and by keepfit's own warnings."""
    assert cause in probable_cause(comparison)


def test_a_warning_of_the_interrupted_run_comes_first():
    """One that the uninterrupted run has as well is less likely."""
    old, new = Warned("old", "always said"), Warned("new", "said after the interruption")
    comparison = compare(outcome(warnings=(old,)), replace(OTHER, warnings=(old, new)))
    assert probable_cause(comparison).startswith(new.reason)


def test_a_warning_about_files_explains_files_only():
    """Training that differs has another cause."""
    warned = Warned("file_delayed", "a file was replaced while it was read")
    for found, named in ((outcome(files={}), True), (OTHER, False), (outcome(output=()), False)):
        comparison = compare(outcome(), replace(found, warnings=(warned,)))
        assert (warned.reason in probable_cause(comparison)) == named


def test_the_text_of_a_difference_without_a_fit():
    """It has no place."""
    assert str(Difference("files", ("a.csv",))) == "files: a.csv"
