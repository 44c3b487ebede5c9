"""Requirements are resolved for the image, which has packages of its own."""

from __future__ import annotations

import csv
import hashlib
import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

from keepfit.job.requirements.checks import check_wheels, read_wheel
from keepfit.job.requirements.image_packages import image_packages
from keepfit.job.requirements.resolve import explain, resolve
from keepfit.job.requirements.source import (
    IndexUnreachable,
    RequirementsError,
    find_source,
    read_source,
)
from tests.e2e.process import ROOT
from tests.requirements.conftest import IMAGE
from tests.requirements.samples import wheel
from tests.servers.processes import free_port


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files_of(resolution):
    return [wheel.file for wheel in resolution.document.wheels]


def refusal(path, image=IMAGE):
    """Return the one line by which the requirements are refused."""
    with pytest.raises(RequirementsError) as caught:
        resolve(path, image)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_wheels_for_the_image(index, project):
    """Tags and markers are those of the image; its own packages are neither chosen nor fetched.

    The index has no NumPy, TensorFlow and boto3, so nothing but the image can provide them.
    """
    path = project("alpha  # all others follow", "tensorflow>=2.18", "boto3[crt]")
    found = resolve(path, IMAGE)
    assert files_of(found) == [
        "alpha-1.0-py3-none-any.whl",
        "beta-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        "linux_only-1.0-py3-none-any.whl",
    ]
    assert found.document.provided == {
        name: IMAGE[name] for name in ("boto3", "numpy", "tensorflow")
    }
    assert set(found.paths) == set(files_of(found))
    found.folder.cleanup()


def test_nothing_that_the_image_lacks(index, project):
    """If the image has all packages, there is nothing to install."""
    assert resolve(project("tensorflow", "numpy>=2"), IMAGE) is None


def test_a_dependency_conflicts_with_the_image(index, project):
    """The line names the package and the image's version."""
    line = refusal(project("gamma"))
    assert "gamma 1.0 depends on numpy<2" in line
    assert "the image has numpy 2.4.6" in line
    assert str(index.parent) not in line


def test_a_wheel_of_ones_own(index, project):
    """A package that has no wheel is one line with the way out: a folder of wheels of one's own."""
    path = project("beta>=2")
    line = refusal(path)
    assert "there is no wheel of beta>=2 for Python 3.11 on Linux x86_64" in line
    assert "wheels/" in line
    wheel(path.parent / "wheels", "beta", "2.1")
    found = resolve(path, IMAGE)
    assert files_of(found) == ["beta-2.1-py3-none-any.whl"]
    found.folder.cleanup()


def test_hashes(index, project):
    """A file with hashes is taken as it is, without the image's packages."""
    (delta, beta) = (next(index.glob(name)) for name in ("delta-1*", "beta-1*"))
    lines = [
        f"{name}==1.0 --hash=sha256:{sha256(path)}"
        for name, path in (("delta", delta), ("beta", beta))
    ]
    lines.append("numpy==2.4.6 \\\n    --hash=sha256:" + 64 * "0")
    found = resolve(project(*lines), IMAGE)
    assert files_of(found) == [beta.name, delta.name]
    found.folder.cleanup()


def test_a_wrong_hash(index, project):
    """The line names the package."""
    line = refusal(project(f"delta==1.0 --hash=sha256:{64 * '0'}"))
    assert "DO NOT MATCH THE HASHES" in line
    assert "delta==1.0" in line


def test_an_index_that_does_not_answer(project, monkeypatch):
    """A retry may help; the password of the index is not shown."""
    for name, value in {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_NO_INDEX": "0",
        "PIP_RETRIES": "1",
        "PIP_INDEX_URL": f"http://user:hidden-word@127.0.0.1:{free_port()}/simple",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(IndexUnreachable, match="the package index was not reached") as caught:
        resolve(project("alpha"), IMAGE)
    assert "hidden-word" not in str(caught.value)


REFUSED = [
    ("numpy==1.26", "asks for numpy==1.26, and the image has numpy 2.4.6"),
    ("Tensorflow_CPU<2", "the image has Tensorflow_CPU 2.21.0"),
    ("-e .", "names source code (-e…)"),
    ("own @ git+https://user:word@host/own", "names source code (git+…)"),
]


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_refused_without_pip(project, text, reason):
    """What no index could change is refused at once, in one line without passwords."""
    line = refusal(project(text))
    assert reason in line
    assert "word" not in line


CHECKED = [
    ({"requires": ["other>=1"]}, "needs other>=1, which was not resolved: add it to the file"),
    ({"requires": ["numpy<2"]}, "needs numpy<2, and numpy 2.4.6 is used"),
    ({"requires": ["boto3[x]"]}, "needs boto3[x], and the image has boto3 without this extra"),
    ({"files": {"tensorflow/__init__.py": ""}}, "brings a module tensorflow of its own"),
    ({"files": {"keras.py": ""}}, "brings a module keras of its own"),
]


@pytest.mark.parametrize(("content", "reason"), CHECKED)
def test_wheels_that_do_not_fit(tmp_path, content, reason):
    """pip accepts these with --no-deps, or for want of knowledge of modules and extras."""
    found = read_wheel(wheel(tmp_path, "own", **content))
    with pytest.raises(RequirementsError, match=re.escape(f"own 1.0 {reason}")):
        check_wheels([found], [], IMAGE)


def test_extras_of_wheels(tmp_path):
    """A dependency counts if its extra is asked for, by the file or by a wheel."""
    own = read_wheel(wheel(tmp_path, "own", extras=["x"], requires=['numpy; extra == "x"']))
    assert check_wheels([own], [Requirement("own")], IMAGE) == frozenset()
    assert check_wheels([own], [Requirement("own[x]")], IMAGE) == {"numpy"}
    user = read_wheel(wheel(tmp_path, "user", requires=["own[x]"]))
    assert check_wheels([own, user], [], IMAGE) == {"numpy"}


@pytest.mark.parametrize("name", ["own-1.0-py3-none-any.whl", "own-1.0.tar.gz"])
def test_what_is_no_wheel(tmp_path, name):
    """A file that pip has built from source, or that is damaged, is one line."""
    (tmp_path / name).write_bytes(b"source")
    with pytest.raises(RequirementsError, match=f"{re.escape(name)} is not a wheel"):
        read_wheel(tmp_path / name)


def test_reason_of_pip():
    """Without a known cause, the line is pip's own, without the files of the resolution."""
    errors = "ERROR: Cannot install -r /x/requirements.txt (line 3)\nERROR: ResolutionImpossible: h"
    line = str(explain("requirements.txt", "", errors))
    assert "Cannot install line 3;" in line
    line = str(explain("requirements.txt", "", "fatal: no repository\n"))
    assert "fatal: no repository" in line


def test_which_file(project):
    """requirements.txt is preferred; a pyproject.toml counts if it has dependencies."""
    toml = project("[project]", "name = 'x'", name="pyproject.toml")
    assert find_source(toml.parent) is None
    project("[project]", 'dependencies = ["alpha>=1"]', name="pyproject.toml")
    assert find_source(toml.parent) == toml
    assert read_source(toml).lines == ("alpha>=1",)
    text = project("beta \\", "  >=1 # why", "# all", "-r other.txt")
    assert find_source(toml.parent) == text
    assert read_source(text).lines == ("beta    >=1", "-r other.txt")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[project", "is not valid TOML"),
        ("[project]\ndependencies = 3", "must be a list of strings"),
        ("project = 3", "must be a list of strings"),
    ],
)
def test_a_bad_pyproject(project, text, reason):
    """One line names the file and the mistake."""
    assert reason in refusal(project(text, name="pyproject.toml"))


def test_table_of_the_image(tmp_path):
    """The table of packages is what the lock files say; TensorFlow has both of its names."""
    written = tmp_path / "table.csv"
    subprocess.run([sys.executable, ROOT / "scripts/image-packages", written], check=True)
    table = ROOT / "job/requirements/image-packages.csv"
    assert written.read_text() == table.read_text(), "run scripts/image-packages"
    rows = {row["name"]: row for row in csv.DictReader(table.open())}
    cpu, gpu = image_packages(gpu=False), image_packages(gpu=True)
    assert cpu["tensorflow"] == cpu["tensorflow-cpu"] == rows["tensorflow-cpu"]["cpu"]
    assert gpu["tensorflow-cpu"] == rows["tensorflow"]["gpu"]
    assert "libclang" not in cpu
    assert not any(name.startswith("nvidia") for name in cpu)
    assert any(name.startswith("nvidia") for name in gpu)
