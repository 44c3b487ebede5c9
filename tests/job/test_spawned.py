"""Processes that multiprocessing spawns from a script under `keepfit run`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.process import Ended, run

POOL = """
import dataclasses, json, multiprocessing, os, signal, sys

print("IMPORTED", __name__, flush=True)

@dataclasses.dataclass
class Pair:
    left: int
    right: int

def work(pair):
    number = signal.getsignal(signal.SIGTERM)
    return {
        "sum": Pair(pair.left + pair.right, 0), "main": sys.modules["__main__"].__name__,
        "argv": sys.argv[1:], "default": number == signal.SIG_DFL,
        "wakeup": signal.set_wakeup_fd(-1), "runner": "keepfit.job.runner" in sys.modules,
    }

if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        found = pool.map(work, [Pair(1, 2), Pair(3, 4)])
    for one in found:
        assert isinstance(one["sum"], Pair)
        print("FOUND", json.dumps(one | {"sum": one["sum"].left}), flush=True)
"""


def found(out: str) -> list[dict]:
    lines = [line.removeprefix("FOUND ") for line in out.splitlines() if line.startswith("FOUND")]
    return [json.loads(line) for line in lines]


@pytest.fixture
def folder(tmp_path) -> Path:
    """The script, also as a module of a package."""
    (tmp_path / "train.py").write_text(POOL)
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__init__.py").write_text("")
    (tmp_path / "package/numbers.py").write_text("ONE = 1")
    (tmp_path / "package/train.py").write_text("from .numbers import ONE\n" + POOL)
    return tmp_path


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("command", [["train.py"], ["-m", "package.train"]], ids=["script", "-m"])
def test_pools(folder, command, method):
    """Workers find the functions and classes of the script, and take no part in the runner."""
    ended = run(folder, *command, method)
    assert ended.code == 0, ended.err
    expected = {
        "main": "__mp_main__",
        "argv": [method],
        "default": True,
        "wakeup": -1,
        "runner": False,
    }
    assert found(ended.out) == [{"sum": 3} | expected, {"sum": 7} | expected]
    assert ended.out.count("IMPORTED __main__") == 1, "the guard is respected"
    assert "IMPORTED __mp_main__" in ended.out


UNGUARDED = """
import multiprocessing
multiprocessing.get_context("spawn").Process(target=print).start()
"""


def test_without_a_guard(tmp_path):
    """Python's own error says what the script lacks, as under `python`."""
    (tmp_path / "train.py").write_text(UNGUARDED)
    own: Ended = run(tmp_path, "train.py")
    plain = subprocess.run(
        [sys.executable, "train.py"], cwd=tmp_path, env=os.environ, capture_output=True, text=True
    )
    assert own.code == plain.returncode
    for text in (own.err, plain.stderr):
        assert "if __name__ == '__main__':" in text
