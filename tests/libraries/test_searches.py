"""Searches and cross validations, killed in each fit and started again until they end."""

from __future__ import annotations

import functools
import json
import signal
from pathlib import Path

import pytest

from tests.e2e.process import ROOT, Ended, run
from tests.rotation import marks_of

JOBS = ROOT / "tests/libraries/jobs"
MAX_ATTEMPTS = 30
SEARCHES = {
    # the batches after which each attempt is killed, and at least how many attempts that makes
    "random": ("13", 4),
    "hyperband": ("9", 6),
    "grid": ("7", 4),
}
soak = pytest.mark.soak


def attempt(folder: Path, job: str, **env: str) -> Ended:
    """Run one attempt at a job."""
    return run(folder, "--deterministic", "--save-every", "1 batches", JOBS / job, **env)


def found(folder: Path) -> dict:
    """Return the result that a job has written."""
    return json.loads((folder / "found.json").read_text())


def attempts_until_the_end(folder: Path, job: str, **env: str) -> int:
    """Start a job again until it is no longer killed. Return the number of attempts."""
    for number in range(1, MAX_ATTEMPTS):
        ended = attempt(folder, job, **env)
        if ended.code != -signal.SIGKILL:
            assert ended.code == 0, ended.err
            return number
    raise AssertionError(f"it has not ended after {MAX_ATTEMPTS} attempts:\n{ended.err}")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Return a function: the result of an uninterrupted job."""

    @functools.cache
    def make(job: str, kind: str = "") -> dict:
        folder = tmp_path_factory.mktemp("uninterrupted")
        ended = attempt(folder, job, KIND=kind, OVERWRITE="0")
        assert ended.code == 0, ended.err
        return found(folder)

    return make


@pytest.mark.parametrize(
    ("kind", "overwrite", "new_machine"),
    [
        pytest.param("random", "0", "0", marks=marks_of(0, days=2)),
        pytest.param("random", "1", "0", marks=soak),
        pytest.param("random", "0", "1", marks=soak),
        pytest.param("hyperband", "0", "0", marks=soak),
        pytest.param("hyperband", "1", "0", marks=soak),
        pytest.param("hyperband", "0", "1", marks=soak),
        # GridSearch can't go on in a folder of its own: a KeyError, with and without keepfit.
        pytest.param("grid", "0", "1", marks=soak),
        pytest.param("grid", "1", "0", marks=marks_of(1, days=2)),
    ],
)
def test_search_killed_in_each_trial(tmp_path, uninterrupted, kind, overwrite, new_machine):
    """Scores, best hyperparameters and the best weights are those of an uninterrupted search.

    Each attempt is killed after fewer batches than a trial has, so every trial is interrupted. A
    new machine has nothing of the tuner's folder; with `overwrite`, the tuner removes it itself.
    """
    kill_after, least = SEARCHES[kind]
    env = {"KIND": kind, "OVERWRITE": overwrite, "NEW_MACHINE": new_machine}
    attempts = attempts_until_the_end(tmp_path, "tuner.py", **env, KILL_AFTER=kill_after)
    assert attempts >= least
    assert found(tmp_path) == uninterrupted("tuner.py", kind)


def test_cross_validation_killed_in_each_fold(tmp_path, uninterrupted):
    """Each fold has its own model, score and history: those of an uninterrupted validation."""
    assert attempts_until_the_end(tmp_path, "folds.py", KILL_AFTER="7") >= 4
    assert found(tmp_path) == uninterrupted("folds.py")
