"""An attempt installs the packages, offline, for its process and its children."""

from __future__ import annotations

import hashlib
import os
import platform

import pytest

from keepfit.callbacks.storage import open_store
from keepfit.infra.jobs.bundle import pack_bundle
from keepfit.job.code_archive import upload_archive
from keepfit.job.requirements import install, suitability
from keepfit.job.requirements.document import Requirements, Wheel
from keepfit.job.requirements.stored import upload_wheels
from keepfit.job.requirements.suitability import Unsuitable, missing_wheels
from tests.e2e import process
from tests.requirements.samples import wheel
from tests.requirements.test_stored import documented

PYTHON = ".".join(platform.python_version_tuple()[:2])

SCRIPT = """
import importlib.metadata, subprocess, sys
import alpha
child = [sys.executable, "-c", "import alpha; print(alpha.VERSION)"]
seen = subprocess.run(child, check=True, capture_output=True, text=True).stdout.strip()
print(alpha.VERSION, seen, importlib.metadata.version("alpha"), alpha.__file__)
"""


@pytest.fixture
def attempt(tmp_path):
    """Return a function that makes an attempt with a document and its wheels in the store."""
    store = open_store(f"file://{tmp_path}/store")
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "train.py").write_text(SCRIPT)
    code = pack_bundle(folder)
    upload_archive(store, code)

    def made(document, paths):
        upload_wheels(store, document, paths)
        options = ["--store", store.uri, "--run", "mine", "--code", code.digest]
        options += ["--requirements", document.digest]
        (tmp_path / "tmp").mkdir(exist_ok=True)
        # A configuration of pip's that would make it fail, if it were read.
        broken = {"PIP_INDEX_URL": "nowhere", "PIP_REQUIRE_HASHES": "1", "PIP_PREFIX": "/nowhere"}
        return process.run(tmp_path, *options, "train.py", TMPDIR=str(tmp_path / "tmp"), **broken)

    made.folder = tmp_path / "tmp/keepfit-mine-packages"
    return made


def test_packages_of_an_attempt(attempt, tmp_path):
    """The script and its children import them; a later attempt has these and no others."""
    document, paths = documented(wheel(tmp_path, "alpha"), wheel(tmp_path, "beta"), python=PYTHON)
    first = attempt(document, paths)
    assert first.code == 0, first.err
    site = attempt.folder / "site"
    assert first.out.split() == ["1.0", "1.0", "1.0", str(site / "alpha.py")]
    installed = first.one("requirements_installed")
    assert (installed["wheels"], installed["requirements"]) == (2, document.digest)
    assert not (attempt.folder / "wheels").exists(), "wheels take space beside their content"
    document, paths = documented(wheel(tmp_path, "alpha", "2.0"), python=PYTHON)
    second = attempt(document, paths)
    assert second.code == 0, second.err
    assert second.out.split()[:3] == ["2.0", "2.0", "2.0"]
    assert not (site / "beta.py").exists()


def test_the_image_has_another_version(attempt, tmp_path):
    """The image's packages are not replaced: one line, and 78, before the script starts."""
    document, paths = documented(wheel(tmp_path, "numpy", "1.0"), python=PYTHON)
    ended = attempt(document, paths)
    assert ended.code == 78
    assert "resolved to numpy 1.0, and the image has" in ended.one("refused")["reason"]
    assert ended.out == ""


def test_a_wheel_that_is_no_archive(attempt, tmp_path):
    """Content with the right digest that pip can't install is one line, and 78."""
    path = tmp_path / "alpha-1.0-py3-none-any.whl"
    path.write_bytes(b"text")
    document, _ = documented(wheel(tmp_path / "good", "alpha"), python=PYTHON)
    fields = {"size": 4, "sha256": hashlib.sha256(b"text").hexdigest()}
    lie = document.model_copy(update={"wheels": (document.wheels[0].model_copy(update=fields),)})
    ended = attempt(lie, {path.name: path})
    assert ended.code == 78
    assert "pip can't install the requirements: ERROR" in ended.one("refused")["reason"]


def of(name="own", version="1.0", tag="py3-none-any"):
    file = f"{name}-{version}-{tag}.whl"
    return Wheel(name=name, version=version, file=file, sha256=64 * "a", size=1)


def requirements(*wheels, python=PYTHON, **provided):
    return Requirements(python=python, wheels=wheels, provided=provided)


def test_what_the_image_lacks():
    """A wheel of a package that the image has in this version is not installed again."""
    wanted = requirements(of(), of("two"), of("three", tag="cp311-abi3-manylinux_2_17_x86_64"))
    there = {"own": "1.0.0"}.get
    assert [w.name for w in missing_wheels(wanted, there)] == ["two", "three"]


UNSUITABLE = [
    (requirements(of(), python="3.9"), {}, "resolved for Python 3.9, and the image has"),
    (requirements(of()), {"own": "1.1"}, "resolved to own 1.0, and the image has 1.1"),
    (requirements(of(), numpy="2.4"), {"numpy": "2.3"}, "relied on numpy 2.4, and the image has"),
    (requirements(of(), numpy="2.4"), {}, "and the image has no such package"),
    (requirements(of(tag="py3-none-win_amd64")), {}, "does not fit this machine"),
]


@pytest.mark.parametrize(("wanted", "image", "reason"), UNSUITABLE)
def test_unsuitable(wanted, image, reason):
    """A wrong package would be worse than a refusal."""
    with pytest.raises(Unsuitable, match=reason):
        missing_wheels(wanted, image.get)


def test_names_of_tensorflow():
    """The image has one of its builds, under whichever name."""
    assert suitability.installed_version("tensorflow")
    assert suitability.installed_version("tensorflow-cpu") == suitability.installed_version(
        "tensorflow"
    )
    assert suitability.installed_version("no-such-package") is None


def test_libraries_that_can_not_be_loaded(monkeypatch, tmp_path):
    """A file system with noexec, as Docker's tmpfs, is refused, unless no wheel has libraries."""
    real = os.statvfs(tmp_path)
    flags = [*real[:8], real.f_flag | os.ST_NOEXEC, *real[9:]]
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(flags))
    install._check_can_execute(tmp_path, [of()])
    with pytest.raises(Unsuitable, match="mounted with noexec"):
        install._check_can_execute(tmp_path, [of(tag="cp311-cp311-linux_x86_64")])
