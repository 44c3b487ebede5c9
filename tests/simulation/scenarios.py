"""The scenarios that are explored: quick ones at each run of the tests, exhaustive ones with soak.

The floors are about half of what an exploration has covered: they notice an explorer that no longer
explores, and leave room for code that needs fewer calls.
"""

from __future__ import annotations

from tests.simulation.programs import fresh_training, pruning, reading, summarizing, training
from tests.simulation.scenario import Scenario

ONE_COMMIT = [("Z", training())]
"""Before: an attempt has committed once and is gone."""

GO_ON = [("R", training())]
"""Afterwards, a new attempt of the same command has to go on."""

GO_ON_OR_AFRESH = [*GO_ON, ("RF", fresh_training())]
"""Afterwards, a new attempt has to go on, or at least one with --fresh, as the refusal says."""

QUICK = [
    Scenario(
        "two attempts claim a new run",
        [("A", training()), ("B", training())],
        recoveries=GO_ON,
        floor=4_000_000,
    ),
    Scenario(
        "an attempt commits twice while another one claims, resumes and commits",
        [("A", training(commits=2)), ("B", training())],
        claimed=1,
        before=ONE_COMMIT,
        recoveries=GO_ON,
        floor=15_000_000,
    ),
    Scenario(
        "an attempt commits and sweeps while another one claims, resumes, commits and sweeps",
        [("A", training(sweeps=True)), ("B", training(sweeps=True))],
        before=ONE_COMMIT,
        recoveries=GO_ON,
        floor=170_000_000,
    ),
    Scenario(
        "two attempts claim, sweep at once and commit",
        [("A", training(sweeps_at_once=True)), ("B", training(sweeps_at_once=True))],
        before=ONE_COMMIT,
        recoveries=GO_ON,
        floor=100_000_000,
    ),
    Scenario(
        "an attempt commits the final state while another one claims",
        [("A", training(finishes=True)), ("B", training(finishes=True))],
        claimed=1,
        before=ONE_COMMIT,
        recoveries=GO_ON,
        floor=50_000,
    ),
    Scenario(
        "keepfit prune while an attempt claims and commits",
        [("A", training(commits=2)), ("P", pruning)],
        before=[*ONE_COMMIT, ("Y", training())],
        recoveries=GO_ON,
        floor=90_000,
    ),
    Scenario(
        "keepfit verify while an attempt commits and sweeps",
        [("A", training(commits=2, sweeps=True)), ("V", reading)],
        before=ONE_COMMIT,
        recoveries=GO_ON,
        floor=9_000_000,
    ),
    Scenario(
        "keepfit ls while an attempt commits and sweeps",
        [("A", training(commits=2, sweeps=True)), ("L", summarizing)],
        before=ONE_COMMIT,
        recoveries=GO_ON,
        floor=35_000,
    ),
    Scenario(
        "--fresh moves the run in S3 while an attempt commits",
        [("A", training()), ("F", fresh_training())],
        claimed=1,
        before=ONE_COMMIT,
        recoveries=GO_ON_OR_AFRESH,
        floor=750_000,
    ),
    Scenario(
        "--fresh moves the run in a directory while an attempt commits",
        [("A", training()), ("F", fresh_training())],
        claimed=1,
        before=ONE_COMMIT,
        recoveries=GO_ON_OR_AFRESH,
        atomic_move=True,
        floor=95_000,
    ),
]

EXHAUSTIVE = [
    Scenario(
        "two attempts claim, commit twice and sweep",
        [("A", training(commits=2, sweeps=True)), ("B", training(commits=2, sweeps=True))],
        before=ONE_COMMIT,
        recoveries=GO_ON,
        floor=100_000_000_000,
    ),
    Scenario(
        "two attempts claim and commit, with two faults",
        [("A", training()), ("B", training())],
        before=ONE_COMMIT,
        recoveries=GO_ON,
        faults=2,
        floor=450_000_000,
    ),
    Scenario(
        "two attempts claim, commit and sweep while a reader verifies",
        [("A", training(sweeps=True)), ("B", training()), ("V", reading)],
        claimed=1,
        before=ONE_COMMIT,
        recoveries=GO_ON,
        floor=250_000_000_000,
    ),
    Scenario(
        "two attempts commit, and keepfit prune",
        [("A", training()), ("B", training()), ("P", pruning)],
        claimed=1,
        before=[*ONE_COMMIT, ("Y", training())],
        recoveries=GO_ON,
        floor=700_000_000,
    ),
    Scenario(
        "three attempts claim and commit",
        [("A", training()), ("B", training()), ("C", training())],
        claimed=1,
        before=ONE_COMMIT,
        recoveries=GO_ON,
        floor=25_000_000_000_000,
    ),
    Scenario(
        "two checkpoints are kept",
        [
            ("A", training(commits=2, sweeps=True, keep=2)),
            ("B", training(commits=2, sweeps=True, keep=2)),
        ],
        claimed=1,
        before=[("Z", training(commits=2, keep=2))],
        recoveries=GO_ON,
        floor=2_000_000_000,
    ),
    Scenario(
        "--fresh moves the run in S3 while an attempt commits twice",
        [("A", training(commits=2)), ("F", fresh_training())],
        claimed=1,
        before=ONE_COMMIT,
        recoveries=GO_ON_OR_AFRESH,
        floor=400_000_000,
    ),
    Scenario(
        "--fresh moves the run in S3 while an attempt claims and commits",
        [("A", training()), ("F", fresh_training())],
        before=ONE_COMMIT,
        recoveries=GO_ON_OR_AFRESH,
        floor=700_000_000_000,
    ),
    Scenario(
        "--fresh moves the run in a directory while an attempt claims and commits",
        [("A", training()), ("F", fresh_training())],
        before=ONE_COMMIT,
        recoveries=GO_ON_OR_AFRESH,
        atomic_move=True,
        floor=200_000_000,
    ),
    Scenario(
        "--fresh moves the run in S3 while an attempt commits for the first time",
        [("A", training()), ("F", fresh_training())],
        claimed=1,
        recoveries=GO_ON_OR_AFRESH,
        floor=800_000,
    ),
    Scenario(
        "--fresh moves the run in a directory while an attempt commits for the first time",
        [("A", training(commits=2)), ("F", fresh_training())],
        claimed=1,
        recoveries=GO_ON_OR_AFRESH,
        atomic_move=True,
        floor=7_000_000,
    ),
]
