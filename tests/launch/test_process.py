"""The launch of real processes: what they are called, and which arguments they have."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from keepfit.callbacks.launch import process
from keepfit.callbacks.launch.process import Launch
from keepfit.job.process.program import command_of
from tests.e2e.process import ROOT

SCRIPT = """
import json, os, sys
sys.argv[:] = ["other.py"]
os.chdir("/")
from keepfit.callbacks.launch.process import current
found = current()
values = [found.name, found.reason, str(found.script), found.arguments, found.digest]
print("LAUNCH", json.dumps(values))
"""
TEST = SCRIPT + "\ndef test_nothing():\n    pass\n"
OWN = {
    "a script": (["train.py"], "train", "train.py"),
    "a script in a folder": (["sub/../sub/train.v2.py"], "train.v2", "sub/train.v2.py"),
    "a link to a script": (["link.py"], "link", "link.py"),
    "options of Python": (["-u", "-X", "dev", "train.py"], "train", "train.py"),
    "a module": (["-m", "train"], "train", "train.py"),
    "a module of a package": (["-m", "package.train"], "package.train", "package/train.py"),
    "a package": (["-m", "package"], "package", "package/__main__.py"),
    "a folder": (["folder.v1"], "folder.v1", "folder.v1/__main__.py"),
    "a zip file": (["packed.zip"], "packed", "packed.zip"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with the same script in all places from which Python can run it."""
    folder = tmp_path_factory.mktemp("launch")
    for name in (
        *("train.py", "sub/train.v2.py", "package/__init__.py", "package/train.py"),
        *("package/__main__.py", "folder.v1/__main__.py", "site-packages/launcher.py"),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("" if name.endswith("__init__.py") else SCRIPT)
    (folder / "link.py").symlink_to(folder / "train.py")
    (folder / "test_it.py").write_text(TEST)
    with zipfile.ZipFile(folder / "packed.zip", "w") as packed:
        packed.writestr("__main__.py", SCRIPT)
    return folder


def output(folder: Path, *command: str, stdin: str = "") -> str:
    """Start a process of Python, and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        input=stdin,
        text=True,
        stdout=subprocess.PIPE,
    ).stdout


def launched(folder: Path, *command: str, stdin: str = "") -> Launch:
    """Start a process of Python, and return the launch that it finds."""
    printed = output(folder, *command, stdin=stdin)
    line = next(line for line in printed.splitlines() if "LAUNCH [" in line)
    name, reason, script, arguments, digest = json.loads(line.partition("LAUNCH ")[2])
    return Launch(name, reason, Path(script), tuple(arguments), digest)


@pytest.mark.parametrize("case", OWN)
def test_own_name(folder, case):
    """The name is that of the script or module, whatever becomes of sys.argv and the folder."""
    command, name, file = OWN[case]
    found = launched(folder, *command, "--lr", "0.1", "-c")
    assert (found.name, found.reason) == (name, "")
    assert found.arguments == ("--lr", "0.1", "-c")
    assert found.script == folder / file or found.script.samefile(folder / file)
    assert found.digest == hashlib.sha256((folder / file).read_bytes()).hexdigest()


LAUNCHERS = {
    "a command": (["-c", SCRIPT], "", "python -c"),
    "standard input": ([], SCRIPT, "standard input or a terminal"),
    "pytest": (["-m", "pytest", "-sq", "-p", "no:cacheprovider", "test_it.py"], "", "pytest"),
    "a debugger": (["-m", "pdb", "train.py"], "c\nq\n", "pdb"),
    "a profiler": (["-m", "cProfile", "train.py"], "", "cProfile"),
    "an installed script": (["site-packages/launcher.py"], "", "launcher.py"),
    "a launcher of the user's": (
        ["-c", "import runpy; runpy.run_path('train.py', run_name='__main__')"],
        "",
        "python -c",
    ),
}


@pytest.mark.parametrize("case", LAUNCHERS)
def test_no_own_name(folder, case):
    """A launcher runs any script, so its name says nothing; the reason names it."""
    command, stdin, reason = LAUNCHERS[case]
    found = launched(folder, *command, stdin=stdin)
    assert found.name is None
    assert reason in found.reason
    assert (found.arguments, found.digest) == ((), None)


def test_a_launcher_outside_of_the_environment(folder, tmp_path):
    """The debugger of an editor lies in a folder of its own, and runs the script as `__main__`."""
    (tmp_path / "launcher.py").write_text(
        "import runpy, sys\nrunpy.run_path(sys.argv[1], run_name='__main__')\n"
    )
    found = launched(folder, str(tmp_path / "launcher.py"), str(folder / "train.py"))
    assert found.name is None
    assert "launcher.py" in found.reason


POOL = """
import multiprocessing

def work():
    from keepfit.callbacks.launch.process import current
    print(current().name, current().reason)

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=work)
    process.start()
    process.join()
"""


def test_a_worker_of_multiprocessing(tmp_path):
    """A spawned process would have the name of its parent, and each of them the same."""
    (tmp_path / "pool.py").write_text(POOL)
    assert output(tmp_path, "pool.py").startswith("None a worker of multiprocessing")


def test_decided_once(monkeypatch):
    """The runner's own arguments count, also if the script changes what they came from."""
    monkeypatch.setattr(process, "_current", None)
    assert process.current().name is None, "these tests run in pytest"
    arguments = ["--lr", "0.1"]
    program = command_of("folder/train.py", arguments)
    process.begin(Launch.of_program(program, Path("folder/train.py"), b""))
    arguments.append("changed")
    digest = hashlib.sha256(b"").hexdigest()
    expected = Launch("train", "", Path("folder/train.py"), ("--lr", "0.1"), digest)
    assert process.current() == expected
    assert process.default_run_name() == "train"
