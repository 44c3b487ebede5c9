"""Imports run one way, so that each room can be read without those above it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.process import ROOT

COMMON = {"callbacks.events", "callbacks.errors", "callbacks.backoff"}
MAY_IMPORT = {
    "callbacks": {"callbacks"},
    "callbacks/storage": {"callbacks.storage", *COMMON},
    "callbacks/checkpoint": {"callbacks.checkpoint", "callbacks.storage", *COMMON},
    "infra": {"infra"},
    "infra/jobs": {"infra.jobs", "infra.aws"},
    "job/notices": {"job.notices", "job.config", "callbacks"},
}
"""A room, and all of ours that it may import."""

MAY_NOT_IMPORT = {
    "callbacks/state": {"callbacks.training", "callbacks.run", "callbacks.resumable"},
    "callbacks/training": {"callbacks.resumable"},
    "callbacks/run.py": {"callbacks.training", "callbacks.resumable"},
    "job/runner.py": {"job.commands", "job.cli", "infra"},
}


def imported(path: Path) -> Iterator[str]:
    """What of ours the file imports, under `if TYPE_CHECKING` and within functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (name for name in names if name.split(".")[0] in ("callbacks", "infra", "job"))


def below(name: str, rooms: set[str]) -> bool:
    return any(f"{name}.".startswith(f"{room}.") for room in rooms)


def files(room: str) -> list[Path]:
    path = ROOT / room
    found = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    assert found, f"there is no {room}"
    return found


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_nothing_from_above(room):
    """As README says: job, then callbacks, then nothing of ours; infra stands by itself."""
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files(room)
        for name in imported(path)
        if not below(name, MAY_IMPORT[room])
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("room", MAY_NOT_IMPORT)
def test_a_room_does_not_know_who_uses_it(room):
    """What is above may change without it."""
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files(room)
        for name in imported(path)
        if below(name, MAY_NOT_IMPORT[room])
    ]
    assert not wrong, "\n".join(wrong)
