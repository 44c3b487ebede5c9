"""What is installed, and what editors, type checkers and documentation tools see of it."""

from __future__ import annotations

import html
import io
import re
import subprocess
import sys
import tarfile
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import keepfit
from keepfit.callbacks.environment import SUPPORTED
from tests import packaging
from tests.e2e.process import ROOT
from tests.rotation import marks_of

USER = """
import keepfit
from keepfit import CSVLogger, ModelCheckpoint, RemoteMonitor, Resumable, TensorBoard
from keepfit import StatefulCallback


class Streak:
    def get_state(self) -> int:
        return 1

    def set_state(self, state: int) -> None:
        print(state)


kept: StatefulCallback = Streak()
resumable: Resumable = Resumable([CSVLogger("log.csv")], {argument})
print(keepfit.__version__.upper())
try:
    resumable.settings
except keepfit.ConfigurationError:
    raise keepfit.Refused from None
"""


def run(*command):
    return subprocess.run(
        [str(part) for part in command],
        env=packaging.clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of the build, and the wheel of the tree."""
    folder = tmp_path_factory.mktemp("built")
    tree = packaging.sources(folder / "tree")
    return folder, packaging.build("wheel", tree, folder / "wheel")


def test_the_wheel_has_one_name_at_its_top(built):
    """Nothing else may appear among a user's modules."""
    names = packaging.contents(built[1])
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"keepfit", f"keepfit-{version('keepfit')}.dist-info"}
    needed = {
        "callbacks/keras/resumable.py",
        "job/examples/mnist.npz",
        "infra/templates/compute.yaml",
        *(
            str(file.relative_to(ROOT))
            for folder in ("assets", "templates")
            for file in (ROOT / "job/reports/page" / folder).iterdir()
        ),
    }
    assert {f"keepfit/{name}" for name in (*needed, "py.typed", "__main__.py")} <= names.keys()


def test_the_wheel_is_the_same_from_the_sdist(built):
    """The links of the tree are folders in the archive, and make the same package."""
    folder, wheel = built
    sdist = packaging.build("sdist", folder / "tree", folder / "sdist")
    with tarfile.open(fileobj=io.BytesIO(sdist.read_bytes())) as archive:
        archive.extractall(folder / "unpacked", filter="fully_trusted")  # built here  # nosec B202 # of our own build
    (unpacked,) = (folder / "unpacked").iterdir()
    again = packaging.contents(packaging.build("wheel", unpacked, folder / "again"))
    assert again == packaging.contents(wheel)


CHECKS = [
    pytest.param(checker, installed, marks=marks_of(number + other, days=2))
    for number, checker in enumerate(("mypy --strict", "basedpyright"))
    for other, installed in enumerate(("editable", "wheel"))
]
"""Each day, each checker sees one of the two installations."""


@pytest.mark.parametrize(("checker", "installed"), CHECKS)
def test_type_checkers_know_the_public_names(checker, installed, built, tmp_path):
    """Right arguments pass, and a wrong one is named."""
    folder = Path(sys.executable).parent
    tool, *options = checker.split()
    python = folder / "python"
    if installed == "wheel":
        python = packaging.environment(tmp_path / "environment", built[1]) / "python"
    select = f"--python-executable={python}" if tool == "mypy" else f"--pythonpath={python}"
    config = [] if tool == "mypy" else [f"--project={tmp_path}"]
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "standard"}')
    right, wrong = tmp_path / "right.py", tmp_path / "wrong.py"
    right.write_text(USER.format(argument='save_every="1 epoch"'))
    wrong.write_text(USER.format(argument='save_evry="1 epoch"'))
    passed = run(folder / tool, *options, *config, select, right)
    assert passed.returncode == 0, passed.stdout + passed.stderr
    failed = run(folder / tool, *options, *config, select, wrong)
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert re.search(r"wrong\.py:\d+.*save_evry", failed.stdout), failed.stdout


def test_pdoc_shows_the_public_names_with_their_signatures(tmp_path):
    """For readers of generated documentation; TAB shows the same names."""
    made = run(sys.executable, "-m", "pdoc", "keepfit", "--output-directory", tmp_path)
    assert made.returncode == 0, made.stderr
    page = html.unescape(re.sub(r"<[^>]+>", "", (tmp_path / "keepfit.html").read_text()))
    for name in keepfit.__all__:
        assert name in page, name
    assert re.search(r"Resumable\(\s*callbacks: [^\n]*,\s*save_every: str \| None = None", page)
    assert dir(keepfit) == sorted(keepfit.__all__)


def test_a_name_that_does_not_exist_is_answered_with_one_that_does(tmp_path):
    """As Python does for names of ordinary modules."""
    script = tmp_path / "typo.py"
    script.write_text("import keepfit\nkeepfit.Resumeable\n")
    ended = run(sys.executable, script)
    assert "has no attribute 'Resumeable'. Did you mean: 'Resumable'?" in ended.stderr


def test_nothing_is_imported_before_it_is_used():
    """`import keepfit` must not cost what Keras costs."""
    code = "import sys, keepfit; print(keepfit.__version__, 'keras' in sys.modules)"
    assert run(sys.executable, "-c", code).stdout.split() == [version("keepfit"), "False"]


def test_the_supported_versions_are_those_of_the_dependencies():
    """The check at run time and the resolver of the installer agree."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (keras,) = (need for need in project["dependencies"] if need.startswith("keras"))
    (tensorflow,) = (
        need for need in project["optional-dependencies"]["gpu"] if need.startswith("tensorflow")
    )
    for need, name in ((keras, "keras"), (tensorflow, "tensorflow")):
        (oldest, (major, newest)) = SUPPORTED[name]
        assert need.endswith(f">={oldest[0]}.{oldest[1]},<{major}.{newest + 1}")
