"""A module of the user's is never taken for one of keepfit's, nor the other way round."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import packaging
from tests.e2e.process import ROOT
from tests.rotation import marks_of

OURS = sorted(
    {
        path.parent.name if path.stem == "__init__" else path.stem
        for room in ("callbacks", "job", "infra")
        for path in (ROOT / room).rglob("*.py")
    }
    - {"keras"}
    | {"tests", "scripts", "benchmarks"}
)
"""Every name of a module of keepfit, and of the folders of its repository.

A keras.py of the user's would hide Keras itself.
"""


TRAIN = """
import os, sys
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if {early}:
    from keepfit import Resumable
names = {names!r}
owners = [__import__(name).OWNER for name in names]
assert owners == names, owners
from keepfit import Resumable
import keepfit, keras, numpy as np
keras.utils.set_random_seed(1)
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
x = np.ones((8, 2), "f4")
model.fit(x, x[:, :1], batch_size=4, epochs=1, verbose=0, callbacks=[Resumable()])
mine = os.path.dirname(os.path.abspath(__file__))
for module in list(sys.modules.values()):
    if getattr(module, "OWNER", None) is not None:
        assert os.path.dirname(module.__file__) == mine, module
print("trained with", os.path.dirname(keepfit.__file__))
"""


@pytest.fixture(scope="module")
def wheel_bin(tmp_path_factory):
    """The `bin` of an environment in which keepfit is installed from a wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = packaging.sources(folder / "tree")
    return packaging.environment(
        folder / "environment", packaging.build("wheel", tree, folder / "out")
    )


@pytest.fixture
def project(tmp_path):
    """A folder of the user's, with a module of each name, and a clone of keepfit's beside it."""
    for name in OURS:
        (tmp_path / f"{name}.py").write_text(f"OWNER = {name!r}\n")
    (tmp_path / "keepfit").mkdir()
    (tmp_path / "keepfit/README.md").write_text("a clone of keepfit, or a folder of notes\n")
    return tmp_path


STARTS = [
    pytest.param(way, installed, marks=marks_of(number + other, days=2))
    for number, way in enumerate(("keepfit run", "python -m keepfit run", "python"))
    for other, installed in enumerate(("editable", "wheel"))
]
"""Each start imports TensorFlow: each day, one half of them belongs to the quick tests."""


@pytest.mark.parametrize(("way", "installed"), STARTS)
def test_each_module_is_the_users(way, installed, project, request):
    """However the script is started, and whichever is imported first."""
    here = Path(sys.executable).parent
    folder = here if installed == "editable" else request.getfixturevalue("wheel_bin")
    script = project / "train.py"
    script.write_text(TRAIN.format(names=OURS, early=installed == "editable"))
    program, *arguments = way.split()
    ended = subprocess.run(
        [folder / program, *arguments, "train.py"],
        cwd=project,
        env=packaging.clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    place = ended.stdout.strip().rpartition("trained with ")[2]
    assert (
        place == str(ROOT / "src/keepfit") if installed == "editable" else "site-packages" in place
    )


@pytest.mark.parametrize("name", ["callbacks", "job", "infra"])
def test_the_short_names_are_no_modules(name, tmp_path):
    """Neither elsewhere, nor in the repository, where folders have these names."""
    for folder in (tmp_path, ROOT):
        ended = subprocess.run(
            [sys.executable, "-c", f"import {name}"],
            cwd=folder,
            env=packaging.clean_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 1
        assert "ImportError" in ended.stderr or "ModuleNotFoundError" in ended.stderr


def test_ruff_forbids_the_short_names(tmp_path):
    """With the rules of pyproject.toml."""
    path = tmp_path / "wrong.py"
    path.write_text("import job\nfrom callbacks import x\nfrom infra.aws import y\n")
    config = f"--config={ROOT / 'pyproject.toml'}"
    ended = subprocess.run(
        [Path(sys.executable).with_name("ruff"), "check", "--select=TID251", config, path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stdout.count("TID251") == 3, ended.stdout
