"""MirroredStrategy on two and four devices: an interrupted fit reads and trains the same.

The cases run in one process of their own (mirrored.py), which configures its devices.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from tests.e2e.process import ROOT
from tests.training.mirrored import CASES

LIMIT = 3600


def todays(kind: str, number: int) -> list[str]:
    """Return some cases of a kind, other ones each day."""
    cases = [case for case in CASES if case.startswith(kind)]
    first = datetime.now(UTC).toordinal() * number
    return [cases[(first + i) * 37 % len(cases)] for i in range(number)]


def errors_of(cases: list[str]) -> dict[str, str]:
    """Run the cases in one process; return the traceback of each that failed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.mirrored", *cases],
        cwd=ROOT,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["case"] for answer in answers] == cases
    return {answer["case"]: answer["error"] for answer in answers if answer["error"]}


def assert_passing(cases: list[str]) -> None:
    failed = errors_of(cases)
    assert not failed, "\n".join(f"{case}:\n{error}" for case, error in failed.items())


def test_some_cases():
    """Inputs of every kind and whole fits, interrupted and resumed: other cases each day."""
    assert_passing([*todays("reading", 2), *todays("reported", 1), *todays("fit", 1)])


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["reading-2", "reading-4", "reported", "fit-2", "fit-4"])
def test_all_cases(kind):
    """Every input, and every fit at every moment."""
    assert_passing([case for case in CASES if case.startswith(kind)])
