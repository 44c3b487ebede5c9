"""Imports go one way, so that each package can be read without the packages above it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.e2e.process import ROOT

COMMON = {
    "keepfit.callbacks.events",
    "keepfit.callbacks.errors",
    "keepfit.callbacks.backoff",
    "keepfit.callbacks.daemon_executor",
    "keepfit.callbacks.exactness",
    "keepfit.callbacks.logs",
    "keepfit.callbacks.masking",
    "keepfit.callbacks.protocols",
}
STORED = {"keepfit.callbacks.checkpoint", "keepfit.callbacks.storage", *COMMON}
MAY_IMPORT = {
    "callbacks": {"keepfit.callbacks"},
    "callbacks/storage": {"keepfit.callbacks.storage", *COMMON},
    "callbacks/checkpoint": STORED,
    "callbacks/checkpoint/format": {
        "keepfit.callbacks.checkpoint.format",
        "keepfit.callbacks.checkpoint.snapshot",
        "keepfit.callbacks.storage",
    },
    "callbacks/checkpoint/read": {
        "keepfit.callbacks.checkpoint.read",
        "keepfit.callbacks.checkpoint.retention",
        "keepfit.callbacks.checkpoint.format",
        "keepfit.callbacks.checkpoint.snapshot",
        "keepfit.callbacks.storage",
        *COMMON,
    },
    "callbacks/identity": {
        "keepfit.callbacks.identity",
        "keepfit.callbacks.launch",
        "keepfit.callbacks.checkpoint.format",
        *COMMON,
    },
    "callbacks/engine": {
        "keepfit.callbacks.engine",
        "keepfit.callbacks.journal",
        "keepfit.callbacks.identity",
        "keepfit.callbacks.launch",
        "keepfit.callbacks.settings",
        "keepfit.callbacks.files.file_helpers",
        *STORED,
    },
    "callbacks/journal": {
        "keepfit.callbacks.journal",
        "keepfit.callbacks.checkpoint.format",
        "keepfit.callbacks.storage",
        *COMMON,
    },
    "callbacks/launch": {
        "keepfit.callbacks.launch",
        "keepfit.callbacks.errors",
        "keepfit.callbacks.logs",
        "keepfit.callbacks.masking",
    },
    "callbacks/logs": {
        "keepfit.callbacks.logs",
        "keepfit.callbacks.events",
        "keepfit.callbacks.masking",
    },
    "callbacks/files": {
        "keepfit.callbacks.files",
        "keepfit.callbacks.storage",
        "keepfit.callbacks.engine.preemption",
        *COMMON,
    },
    "callbacks/adapters": {"keepfit.callbacks.adapters", "keepfit.callbacks.files", *STORED},
    "infra": {"keepfit.infra", "keepfit.callbacks.masking"},
    "infra/jobs": {"keepfit.infra.jobs", "keepfit.infra.aws"},
    "job/notices": {
        "keepfit.job.notices",
        "keepfit.callbacks.runner_settings",
        "keepfit.callbacks",
    },
    "job/machine": {"keepfit.job.machine", "keepfit.job.notices", "keepfit.callbacks"},
}
"""The modules of keepfit that a package may import."""

MAY_NOT_IMPORT = {
    "callbacks/training": {"keepfit.callbacks.keras"},
    "job/runner.py": {"keepfit.job.commands", "keepfit.job.cli", "keepfit.infra"},
}


def imported(path: Path) -> Iterator[str]:
    """Yield keepfit's modules that the file imports, also under TYPE_CHECKING and in functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (name for name in names if name.split(".")[0] == "keepfit")


def is_in(name: str, packages: set[str]) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def files(package: str) -> list[Path]:
    path = ROOT / package
    modules = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    assert modules, f"there is no {package}"
    return modules


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_lower_packages(package):
    """job imports callbacks, callbacks imports nothing else of keepfit; infra is independent."""
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files(package)
        for name in imported(path)
        if not is_in(name, MAY_IMPORT[package])
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", MAY_NOT_IMPORT)
def test_a_package_does_not_import_its_users(package):
    """Packages above it can change without it."""
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files(package)
        for name in imported(path)
        if is_in(name, MAY_NOT_IMPORT[package])
    ]
    assert not wrong, "\n".join(wrong)


def module_of(path: Path) -> str:
    return "keepfit." + ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(
        ".__init__"
    )


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules of one circle of imports, or an empty list."""
    sorter = TopologicalSorter(graph)
    try:
        sorter.prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_no_circle_of_imports():
    """Each module can be read after those that it imports, also where only types are imported."""
    modules = {module_of(path): path for package in ("callbacks", "job") for path in files(package)}
    graph = {
        name: {
            target
            for target in imported(path)
            for target in (target, target.rpartition(".")[0])
            if target in modules and target != name
        }
        for name, path in modules.items()
    }
    assert circle(graph) == []


def test_a_circle_is_found():
    """The test above can fail."""
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})


USERS_OF_PRIVATE_NAMES = ("callbacks/adapters/", "callbacks/training/internals/")
"""The only places where private names of Keras and TensorFlow may be used."""

PRIVATE_MODULES = ("keras.src", "tensorflow.python", "tensorflow.core")


def private_names(path: Path) -> Iterator[str]:
    """Yield private modules that the file imports, and private names that it does not define.

    ruff's SLF001 finds private names on any object but `self`, `cls` and `super()`; classes that
    are derived from Keras' need this check.
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


@pytest.mark.parametrize("package", ["callbacks", "job"])
def test_private_names_of_keras_are_in_few_files(package):
    """Only the adapters and internals/ use them, so few files depend on Keras' version."""
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in files(package)
        if not str(path.relative_to(ROOT)).startswith(USERS_OF_PRIVATE_NAMES)
        for name in private_names(path)
    ]
    assert not wrong, "\n".join(wrong)


def test_private_names_are_found():
    """The test above can fail: private names are found in the files that may use them."""
    assert "keras.src.backend.common" in list(
        private_names(ROOT / USERS_OF_PRIVATE_NAMES[1] / "randomness.py")
    )
    redirected = ROOT / "callbacks/adapters/keras_callbacks/model_checkpoint.py"
    assert "self._get_file_path" in list(private_names(redirected))
