"""Every order of the store calls of several actors, with a crash, an unclear or a lost answer."""

from __future__ import annotations

from math import comb

import pytest

from tests.simulation.determinism import deterministic
from tests.simulation.explorer import Explorer
from tests.simulation.programs import pruning, reading, training
from tests.simulation.report import Report
from tests.simulation.scenario import Scenario
from tests.simulation.scenarios import EXHAUSTIVE, ONE_COMMIT, QUICK


def explore(scenario: Scenario, *, everywhere: bool = False) -> Report:
    """Explore a scenario and print the numbers, which `pytest -s` shows."""
    with deterministic() as process:
        report = Explorer(scenario, process, everywhere=everywhere).explore()
    print(f"\n{report}")
    return report


@pytest.mark.parametrize("scenario", QUICK, ids=lambda scenario: scenario.name)
def test_no_order_violates_an_invariant(scenario, record_property):
    """The invariants of invariants.py hold after every step of every order."""
    assert_holds(scenario, explore(scenario), record_property)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scenario", [*QUICK, *EXHAUSTIVE], ids=lambda scenario: scenario.name)
def test_no_order_of_longer_programs_violates_an_invariant(scenario, record_property):
    """As above, with more actors and faults; from every state, a new attempt can go on."""
    assert_holds(scenario, explore(scenario, everywhere=True), record_property)


def assert_holds(scenario: Scenario, report: Report, record_property) -> None:
    """Assert that nothing was violated and that enough was explored."""
    for name in ("interleavings", "pruned", "states", "steps", "runs", "seconds"):
        record_property(name, getattr(report, name))
    assert report.violation is None, str(report)
    assert report.interleavings >= scenario.floor


def test_orders_are_counted_as_combinatorics_count_them():
    """Two readers that make n calls each can be ordered in (2n)! / (n! n!) ways."""
    alone = explore(Scenario("one reader", [("V", reading)], before=ONE_COMMIT, faults=0))
    calls = alone.steps
    both = explore(
        Scenario("two readers", [("V", reading), ("W", reading)], before=ONE_COMMIT, faults=0)
    )
    assert alone.interleavings == 1
    assert both.interleavings == comb(2 * calls, calls)
    assert both.states == (calls + 1) ** 2, "the orders that lead to one state are expanded once"


def test_merging_equivalent_orders_loses_none():
    """Trying every order for itself finds as many of them, and the same ends."""
    scenario = Scenario("prune", [("A", training()), ("P", pruning)], claimed=1, before=ONE_COMMIT)
    merged = explore(scenario)
    with deterministic() as process:
        one_by_one = Explorer(scenario, process).enumerate_ends()
        ends = list(one_by_one)
    assert len(ends) == merged.interleavings
    assert set(ends) == set(merged.ends)
