"""Temporary files and caches of an attempt on a machine with little that can be written to."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from keepfit.callbacks.errors import Refused
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.storage import open_store
from keepfit.infra.jobs.bundle import pack_bundle
from keepfit.job.code_archive import upload_archive
from keepfit.job.machine import caches
from keepfit.job.machine.working_space import WorkingSpace, find_working_space
from tests.job.conftest import keepfit


def test_a_folder_that_can_be_used(tmp_path):
    """TMPDIR, with nothing left in it; what is free there is logged."""
    space = find_working_space({"TMPDIR": str(tmp_path)})
    assert space.folder == str(tmp_path)
    assert not list(tmp_path.iterdir())
    with capture_logs() as logs:
        WorkingSpace(str(tmp_path), loadable=True).report()
    (line,) = logs
    assert (line["event"], line["log_level"]) == ("working_space", "info")
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize / (1 << 30)
    assert float(line["free"].removesuffix(" GiB")) == pytest.approx(free, abs=1)


def test_a_folder_without_shared_libraries(tmp_path):
    """A warning says so before the script finds out, and what helps."""
    with capture_logs() as logs:
        WorkingSpace(str(tmp_path), loadable=False).report()
    (line,) = logs
    assert (line["event"], line["log_level"]) == ("working_space", "warning")
    assert "noexec" in line["reason"]
    assert "exec" in line["fix"]


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_folder_that_can_not_be_used(tmp_path, kind):
    """It is refused by name: Python's tempfile would take another folder without a word."""
    folder = tmp_path / "tmp"
    if kind == "file":
        folder.touch()
    with capture_logs() as logs, pytest.raises(Refused):
        find_working_space({"TMPDIR": str(folder)})
    (line,) = logs
    assert f"TMPDIR is {folder}" in line["reason"]
    assert "1777" in line["fix"]


@pytest.fixture
def job(tmp_path, monkeypatch, script):
    """Return a function that runs a submitted script which exits with 7. It returns the log."""
    store = f"file://{tmp_path}/store"
    script.write_text("raise SystemExit(7)")
    bundle = pack_bundle(script.parent)
    upload_archive(open_store(store), bundle)
    monkeypatch.chdir(tmp_path)

    def run(code, **env):
        for name, value in {"KEEPFIT_STORE": store, "KEEPFIT_RUN": "mine", **env}.items():
            monkeypatch.setenv(name, str(value))
        ended = keepfit("run", "--code", bundle.digest, "train.py", code=code)
        return [json.loads(line) for line in ended.stderr.splitlines()]

    return run


def test_a_job_without_a_folder(job, tmp_path):
    """The attempt ends with 78 before the script starts: another attempt would not help."""
    (line,) = [line for line in job(78, TMPDIR=tmp_path / "none") if line["level"] == "error"]
    assert line["event"] == "refused"
    assert f"TMPDIR is {tmp_path}/none" in line["reason"]


def test_a_job_with_a_folder(job, tmp_path):
    """One line has the folder and what is free there."""
    (line,) = [line for line in job(7, TMPDIR=tmp_path) if line["event"] == "working_space"]
    assert (line["folder"], line["level"]) == (str(tmp_path), "info")


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """The variables of a process whose HOME does not exist."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return {"HOME": str(tmp_path / "home"), "KERAS_HOME": "/mine"}


def test_caches_without_a_home(environment, tmp_path):
    """Libraries get folders under TMPDIR, of this user only; what is set stays."""
    with capture_logs() as logs:
        caches.use_writable_folders(environment)
    own = tmp_path / ".keepfit-home"
    assert own.stat().st_mode & 0o777 == 0o700
    assert environment["XDG_CACHE_HOME"] == str(own / ".cache")
    assert environment["KERAS_HOME"] == "/mine"
    (line,) = logs
    assert (line["event"], line["log_level"]) == ("home_read_only", "info")
    assert sorted(line["variables"]) == sorted({*caches.FOLDERS} - {"KERAS_HOME"})
    with capture_logs() as logs:
        caches.use_writable_folders(environment)
    assert not logs, "each variable is set, also for a process that this one starts"


def test_caches_of_an_image(environment):
    """A folder that the image contains is used: it may have models, downloaded at its build."""
    home = Path(environment["HOME"])
    (home / ".cache").mkdir(parents=True)
    names = caches.folders_to_replace(str(home), environment)
    assert "XDG_CACHE_HOME" not in names
    assert "XDG_CONFIG_HOME" in names


def test_a_home_that_can_be_written_to(environment, tmp_path):
    """Nothing changes."""
    before = environment | {"HOME": str(tmp_path)}
    after = dict(before)
    caches.use_writable_folders(after)
    caches.use_writable_folders(without := {"PATH": "/bin"})
    assert (after, without) == (before, {"PATH": "/bin"})


def test_a_folder_for_caches_of_another_user(environment, tmp_path):
    """Its name can be guessed, so a link is not followed; a line says so, and the job goes on."""
    (tmp_path / ".keepfit-home").symlink_to(tmp_path)
    before = dict(environment)
    with capture_logs() as logs:
        caches.use_writable_folders(environment)
    (line,) = logs
    assert (environment, line["log_level"]) == (before, "warning")
    assert "not a folder of this user" in line["reason"]
