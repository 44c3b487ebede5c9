"""Imports run one way, so that each room can be read without those above it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.process import ROOT

COMMON = {"keepfit.callbacks.events", "keepfit.callbacks.errors", "keepfit.callbacks.backoff"}
MAY_IMPORT = {
    "callbacks": {"keepfit.callbacks"},
    "callbacks/storage": {"keepfit.callbacks.storage", *COMMON},
    "callbacks/checkpoint": {"keepfit.callbacks.checkpoint", "keepfit.callbacks.storage", *COMMON},
    "infra": {"keepfit.infra"},
    "infra/jobs": {"keepfit.infra.jobs", "keepfit.infra.aws"},
    "job/notices": {"keepfit.job.notices", "keepfit.job.notice_settings", "keepfit.callbacks"},
}
"""A room, and all of ours that it may import."""

MAY_NOT_IMPORT = {
    "callbacks/adapters": {
        "keepfit.callbacks.training",
        "keepfit.callbacks.run",
        "keepfit.callbacks.resumable",
    },
    "callbacks/training": {"keepfit.callbacks.resumable"},
    "callbacks/run.py": {"keepfit.callbacks.training", "keepfit.callbacks.resumable"},
    "job/runner.py": {"keepfit.job.commands", "keepfit.job.cli", "keepfit.infra"},
}


def imported(path: Path) -> Iterator[str]:
    """What of ours the file imports, under `if TYPE_CHECKING` and within functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (name for name in names if name.split(".")[0] == "keepfit")


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


PRIVATE_ROOMS = ("callbacks/adapters/", "callbacks/training/internals.py")
"""Where private names of Keras and TensorFlow may stand."""

PRIVATE_MODULES = ("keras.src", "tensorflow.python", "tensorflow.core")


def private_names(path: Path) -> Iterator[str]:
    """Private modules that the file imports, and private names that no code of ours defines.

    ruff's SLF001 finds them on any object but `self`, `cls` and `super()`; a class derived from one
    of Keras' needs more.
    """
    tree = ast.parse(path.read_text())
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                own.add(name)
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Name(id=name, ctx=ast.Store()):
                own.add(name)
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module)) if module.startswith(PRIVATE_MODULES):
                yield module
            case ast.Attribute(
                attr=name, value=ast.Name(id="self") | ast.Call(func=ast.Name("super"))
            ):
                if re.match("_[a-z]", name) and name not in own:
                    yield f"self.{name}"
            case ast.Attribute() if ast.unparse(node).startswith(PRIVATE_MODULES):
                yield ast.unparse(node)


@pytest.mark.parametrize("room", ["callbacks", "job"])
def test_private_names_of_keras_stand_in_their_rooms(room):
    """As internals.py says; so a new version of Keras is met in few files."""
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in files(room)
        if not str(path.relative_to(ROOT)).startswith(PRIVATE_ROOMS)
        for name in private_names(path)
    ]
    assert not wrong, "\n".join(wrong)


def test_private_names_are_found():
    """The test above can fail: these files are full of them."""
    assert "keras.src.backend.common" in list(private_names(ROOT / PRIVATE_ROOMS[1]))
    redirected = ROOT / "callbacks/adapters/model_checkpoint.py"
    assert "self._get_file_path" in list(private_names(redirected))
