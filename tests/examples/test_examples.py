"""Each program in examples/ is killed at three random moments, and ends as if it had not been."""

from __future__ import annotations

import dataclasses
import os
import re
import zipfile
from datetime import UTC, datetime

import pytest

from tests.e2e.process import ROOT
from tests.examples import drill
from tests.rotation import rotating

README = ROOT / "examples/README.md"


@pytest.fixture(scope="module")
def server():
    """The server that forks the processes of examples."""
    with drill.serving() as server:
        yield server


@pytest.mark.parametrize("name", rotating(drill.EXAMPLES, days=len(drill.EXAMPLES)))
def test_killed_at_random_moments(tmp_path, server, name):
    """The result, all variables, histories and files are those of plain Keras, uninterrupted.

    The moments are drawn anew each day. EXAMPLES_SEED=2026-11-28 draws those of that day again.
    """
    seed = os.environ.get("EXAMPLES_SEED") or f"{datetime.now(UTC):%Y-%m-%d}"
    print(f"EXAMPLES_SEED={seed}")
    expected = drill.uninterrupted(server, name, tmp_path / "uninterrupted")
    kills = drill.moments(expected.hooks, f"{seed} {name}")
    found = drill.interrupted(server, name, tmp_path / "interrupted", kills)
    print(f"| {name} | {'; '.join(found.kills)} | identical |")
    assert len(found.kills) == drill.KILLS
    assert expected.fits
    assert drill.differences(expected, found) == [], f"EXAMPLES_SEED={seed}, killed: {found.kills}"


@pytest.fixture
def outcome():
    """The traces of a run with two fits."""
    fits = [{"history": {"loss": [2.0, 1.0]}, "variables": {"w": digest}} for digest in "ab"]
    return drill.Outcome("loss 1.0", fits, {"log.csv": b"1"}, 10)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"last_line": "loss 1.1"}, ["last line of output: 'loss 1.0', 'loss 1.1'"]),
        ({"files": {}}, ["file log.csv: b'1', None"]),
        ({"files": {"log.csv": b"1", "more": b""}}, ["file more: None, b''"]),
        ({"fits": []}, []),  # all trials of a search had ended before the last attempt
        (
            {"fits": [{"history": {"loss": [2.0]}, "variables": {"w": "b"}}]},
            ["fit 1: history: loss: [2.0, 1.0], [2.0]"],
        ),
        (
            {"fits": [{"history": {"loss": [2.0, 1.0]}, "variables": {"w": "c"}}]},
            ["fit 1: variables: w: b, c"],
        ),
        ({"fits": [{}, {}, {}]}, ["2 fits, 3 fits"]),
    ],
)
def test_what_differs_is_named(outcome, changed, said):
    """A comparison can fail: each kind of trace is compared."""
    assert drill.differences(outcome, outcome) == []
    found = drill.differences(outcome, dataclasses.replace(outcome, **changed))
    assert found[: len(said) or None] == said


def test_saved_models_are_compared_by_content(tmp_path):
    """The date of a saved model and addresses in memory may differ, its weights may not."""
    found = []
    for number, weights in enumerate(["w", "w", "v"]):
        with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
            archive.writestr("metadata.json", f'{{"date_saved": "{number}", "version": 3}}')
            archive.writestr("config.json", f'{{"shared_object_id": {number}, "units": 3}}')
            archive.writestr("model.weights.h5", weights)
        found.append(drill.contents(tmp_path))
    assert found[0] == found[1] != found[2]


def test_moments_are_repeatable_and_within_the_training():
    """The same seed draws the same moments; another one draws others."""
    draws = [drill.moments(400, str(seed)) for seed in range(50)]
    assert draws == [drill.moments(400, str(seed)) for seed in range(50)]
    assert len(set(map(tuple, draws))) == len(draws)
    assert all(min(draw) >= 1 and sum(draw) <= 400 for draw in draws)


def test_readme_lists_each_example():
    """The table has one row for each program, and each says that its drill was identical."""
    rows = re.findall(r"^\| \[(\w+)\.py\]\(\1\.py\) \|.*\| (\w+) \|$", README.read_text(), re.M)
    assert rows == [(name, "identical") for name in drill.EXAMPLES]


@pytest.mark.parametrize("name", drill.EXAMPLES)
def test_examples_are_unchanged_keras(name):
    """No example contains anything of keepfit."""
    assert "keepfit" not in (ROOT / f"examples/{name}.py").read_text().lower()
