"""The explorer finds faults: each rule of the order of calls is broken once, on purpose."""

from __future__ import annotations

import pytest

from tests.simulation import planted_faults as plants
from tests.simulation.determinism import deterministic
from tests.simulation.explorer import Explorer
from tests.simulation.programs import fresh_training, pruning, training
from tests.simulation.report import Report
from tests.simulation.scenario import Scenario
from tests.simulation.scenarios import GO_ON, ONE_COMMIT

TWO_ATTEMPTS = Scenario(
    "two attempts",
    [("A", training(commits=2, sweeps=True)), ("B", training(sweeps=True))],
    before=ONE_COMMIT,
    recoveries=GO_ON,
)
NEW_RUN = Scenario("a new run", [("A", training()), ("B", training())], recoveries=GO_ON)
PRUNE = Scenario(
    "prune",
    [("A", training()), ("P", pruning)],
    before=[*ONE_COMMIT, ("Y", training(keep=2))],
    recoveries=GO_ON,
)
FRESH = Scenario(
    "fresh",
    [("A", training()), ("F", fresh_training())],
    before=ONE_COMMIT,
    recoveries=GO_ON,
)
FOUND = [
    (plants.head_before_manifest, TWO_ATTEMPTS, "HEAD names", ["swap run/HEAD"]),
    (plants.deletion_before_swap, TWO_ATTEMPTS, "HEAD names it", ["delete run/checkpoints/"]),
    (plants.sweep_of_any_attempt, TWO_ATTEMPTS, "newer attempt has written it", ["delete "]),
    (plants.unconditional_claim, TWO_ATTEMPTS, "has replaced the HEAD of", ["swap run/HEAD"]),
    (plants.prune_of_newest_attempt, PRUNE, "newer attempt has written it", ["P ", "delete "]),
    (plants.prune_of_objects_in_force, PRUNE, "HEAD names it", ["P ", "delete "]),
    (plants.unclear_swap_taken_for_failed, TWO_ATTEMPTS, "HEAD names", ["unclear", "delete "]),
    (
        plants.recovery_without_second_look,
        NEW_RUN,
        "has no manifest to continue from",
        ["list run/"],
    ),
    (plants.move_that_deletes_first, FRESH, "HEAD names it", ["F ", "delete "]),
]


def explore(scenario: Scenario, plant: plants.Plant) -> Report:
    """Explore a scenario with a planted fault, and print what is found."""
    with deterministic() as process, pytest.MonkeyPatch.context() as patch:
        plant(patch)
        report = Explorer(scenario, process).explore()
    print(f"\n{report}")
    return report


@pytest.mark.parametrize(
    ("plant", "scenario", "violation", "calls"), FOUND, ids=[row[0].__name__ for row in FOUND]
)
def test_a_planted_fault_is_found(plant, scenario, violation, calls):
    """The report names the invariant, and lists the calls of a shortest way to violate it."""
    report = explore(scenario, plant)
    assert report.violation is not None, "the planted fault was not found"
    assert violation in report.violation
    for call in calls:
        assert any(call in line for line in report.trace), call
    assert len(report.trace) <= 40, "a trace is short enough to be read"
