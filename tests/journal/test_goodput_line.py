"""Goodput as one line."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.callbacks.journal.goodput import AttemptGoodput, Costs, Goodput, Parts, measure
from keepfit.callbacks.journal.goodput_line import describe
from tests.journal.factory import journal, killed_and_resumed, moment

ATTEMPT = AttemptGoodput(1, moment(0), 1.0, True, None, "", Parts(), 0, 0, 0)


def goodput(costs: Costs = Costs(), attempts: int = 1, **parts: float) -> Goodput:  # noqa: B008
    """Return the goodput of a run with these parts."""
    return Goodput((ATTEMPT,) * attempts, Parts(**parts), costs)


def test_the_line_of_the_documentation():
    """Causes come by size, costs last."""
    found = goodput(
        Costs(0.41, 1.37), productive=978, startup=11, retrained=6, saving=5, waiting=0.4
    )
    assert describe(found) == (
        "goodput 97.8 %: 1.1 % start-up, 0.6 % trained again, 0.5 % saves; "
        "$0.41, on demand $1.37"
    )  # fmt: skip


def test_a_run_that_was_killed():
    """Validation stands apart from goodput, and what is not known is named."""
    assert describe(measure(killed_and_resumed())) == (
        "goodput 38.7 %: 35.9 % waiting, 11.6 % start-up, 7.7 % unknown, 2.6 % restore, "
        "1.9 % validation, 1.3 % trained again, 0.3 % saves; under $0.01, on demand $0.02"
    )


@pytest.mark.parametrize(
    ("costs", "end"),
    [
        (Costs(), "100.0 %"),
        (Costs(unpriced=3), "100.0 %"),
        (Costs(1234.5), "; $1,234.50"),
        (Costs(0.4, 1.2, unpriced=2), "; $0.40 for 1 of 3 attempts, on demand $1.20"),
        (Costs(0.0, 0.004), "; $0.00, on demand under $0.01"),
    ],
)
def test_costs(costs: Costs, end: str):
    """Only what is known is shown."""
    assert describe(goodput(costs, 3, productive=1)).endswith(end)


def test_no_time():
    """Nothing is divided by zero."""
    assert describe(Goodput()) == "goodput unknown: no time is recorded"
    assert describe(measure([journal(startup=0, steps=0)])).startswith("goodput unknown")


PARTS = st.builds(
    Parts, **dict.fromkeys(Parts().seconds(), st.floats(0, 1e12) | st.sampled_from((0.0, 1.0, 3.0)))
)


@settings(max_examples=200, deadline=None, database=None)
@given(PARTS)
def test_the_percentages_add_up(parts: Parts):
    """To 100 in print; none is further from the truth than by what was left out and rounded."""
    line = describe(Goodput((), parts))
    printed = [round(10 * float(number)) for number in re.findall(r"([\d.]+) %", line)]
    if parts.total:
        assert sum(printed) == 1000
        assert abs(printed[0] / 1000 - parts.productive / parts.total) < 0.006
        assert all(printed[1:])
