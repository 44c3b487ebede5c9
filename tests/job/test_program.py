"""Scripts and modules are executed as `python` executes them, or refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keepfit.callbacks.errors import ConfigurationError
from keepfit.callbacks.launch.command import PythonCommand, Source
from keepfit.job.process.program import check_program, command_of
from tests.e2e.process import Ended, run

SHOW = """
import dataclasses, json, sys
from pathlib import Path

@dataclasses.dataclass
class Point:
    x: int

main = sys.modules["__main__"]
names = ("__name__", "__package__", "__file__", "__cached__")
shown = {name: str(globals()[name]) for name in names}
shown["spec"] = getattr(__spec__, "name", None)
shown["loader"] = type(__loader__).__name__
shown["argv"], shown["path"], shown["here"] = sys.argv, sys.path[0], vars(main) is globals()
shown["types"] = [str(field.type) for field in dataclasses.fields(Point)]
shown["optimized"] = not __debug__
"""
PRINT = 'print("SHOWN", json.dumps(shown))\n'
RELATIVE = 'from .values import VALUE\nshown["value"] = VALUE\n'
BESIDE = 'import beside\nshown["beside"] = beside.VALUE\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with scripts, and a package with modules."""
    folder = tmp_path_factory.mktemp("programs")
    files = {
        "train.py": SHOW + PRINT,
        "sub/train.py": SHOW + BESIDE + PRINT,
        "sub/beside.py": "VALUE = 1",
        "package/__init__.py": "",
        "package/values.py": "VALUE = 42",
        "package/train.py": SHOW + RELATIVE + PRINT,
        "package/__main__.py": SHOW + RELATIVE + PRINT,
        "package/deep/train.py": SHOW + "from ..values import VALUE\n" + PRINT,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "link.py").symlink_to("sub/train.py")
    return folder


def shown(text: str) -> dict:
    line = next(line for line in text.splitlines() if line.startswith("SHOWN "))
    return json.loads(line.removeprefix("SHOWN "))


SAME = {
    "a script": ["train.py", "--lr", "0.1", "-m"],
    "a script with a dot": ["./train.py"],
    "a script in a folder": ["sub/train.py"],
    "a link": ["link.py"],
    "a module": ["-m", "train", "-x"],
    "a module of a package": ["-m", "package.train", "--lr", "0.1"],
    "a package": ["-m", "package", "-m", "x"],
    "a namespace package": ["-m", "package.deep.train"],
}


@pytest.mark.parametrize("case", SAME)
def test_as_python_does(folder, case):
    """Names, paths, arguments and annotations are those that the program has under `python`."""
    command = SAME[case]
    ended = subprocess.run([sys.executable, *command], cwd=folder, text=True, capture_output=True)
    own = run(folder, *command)
    assert own.code == 0, own.err
    assert shown(own.out) == shown(ended.stdout)


def test_the_whole_path(folder):
    """A script is found by its absolute path from any folder."""
    own = run(Path("/"), folder / "sub/train.py")
    assert shown(own.out)["path"] == str(folder / "sub")
    assert shown(own.out)["beside"] == 1


OPTIONS = {
    "optimized": ({"PYTHONOPTIMIZE": "1"}, []),
    "a safe path": ({"PYTHONSAFEPATH": "1", "PYTHONPATH": "sub"}, []),
    "options": ({}, ["-O", "-P", "-X", "dev", "-W", "ignore"]),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options_of_python(folder, case):
    """`python OPTIONS -m keepfit run` runs a script as `python OPTIONS` does."""
    variables, options = OPTIONS[case]
    environment = {**os.environ, **variables}
    started = [sys.executable, *options]

    def ended(*command: str) -> dict:
        output = subprocess.run(
            [*started, *command], cwd=folder, env=environment, text=True, capture_output=True
        ).stdout
        return shown(output)

    own, expected = ended("-m", "keepfit", "run", "train.py"), ended("train.py")
    assert own == expected


def test_uv_run(folder):
    """`uv run` starts keepfit from an environment: nothing depends on the process before it."""
    uv = Path(sys.executable).with_name("uv")
    command = [uv, "run", "--no-project", "--offline", "keepfit", "run", "train.py", "x"]
    environment = {**os.environ, "VIRTUAL_ENV": sys.prefix}
    own = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True)
    assert own.returncode == 0, own.stderr
    assert shown(own.stdout) == shown(run(folder, "train.py", "x").out)


def trace(folder: Path, *command: str) -> tuple[Ended, list[str]]:
    """Run a program that raises an exception. Return the lines of its traceback."""
    ended = run(folder, *command)
    lines = ended.err.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("Traceback"))
    return ended, [line.strip() for line in lines[start:] if not line.startswith("{")]


BAD = 'def fail():\n    raise ValueError("bad")\n\nfail()\n'


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("bad.py", ["bad.py"]),
        ("worse/bad.py", ["-m", "worse.bad"]),
        ("worst/__init__.py", ["-m", "worst.train"]),
    ],
)
def test_traceback(tmp_path, file, command):
    """It begins in the program, without frames of keepfit, runpy and Python's import."""
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(BAD)
    ended, lines = trace(tmp_path, *command)
    assert ended.code == 1
    assert lines[1] == f'File "{tmp_path / file}", line 4, in <module>'
    assert lines[-1] == "ValueError: bad"
    assert sum(line.startswith("File ") for line in lines) == 2


def test_no_such_module(folder):
    """One line names the module and the folder; Python's own words say what is wrong."""
    for name, words in (
        ("package.none", "No module named package.none"),
        ("none.train", "none"),
        ("package.deep", "cannot be directly executed"),
        (".train", "Relative module names not supported"),
    ):
        ended = run(folder, "-m", name)
        assert ended.code == 78
        reason = ended.one("refused")["reason"]
        assert words in reason
        assert name in reason
        assert str(folder) in reason
        assert "Traceback" not in ended.err


def reason_of(target: str | Path) -> str:
    with pytest.raises(ConfigurationError) as raised:
        check_program(command_of(str(target), []))
    return str(raised.value)


def test_what_can_not_be_started_again(tmp_path, monkeypatch):
    """Standard input and pipes are named, and the way out."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.py")
    for target in ("-", "/dev/stdin", "/dev/fd/63", "/dev/../dev/stdin", "pipe.py", "/dev/null"):
        reason = reason_of(target)
        assert target in reason
        assert "start it again" in reason
        assert "keepfit run train.py" in reason


def test_what_is_no_script(tmp_path):
    """Folders, notebooks, compiled code and missing files are named, and the way out."""
    (tmp_path / "cats.ipynb").write_text("{}")
    (tmp_path / "train.pyc").write_bytes(b"\xa7\r\r\n\0\0\0\0")
    for target, words in {
        tmp_path: "-m PACKAGE",
        tmp_path / "cats.ipynb": "nbconvert --to script",
        tmp_path / "train.pyc": "no Python source",
        tmp_path / "none.py": "there is no script",
    }.items():
        reason = reason_of(target)
        assert str(target) in reason
        assert words in reason


def test_what_is_a_script(tmp_path):
    """Any text of any name is accepted, links to it included; modules are found later."""
    (tmp_path / "train").write_text("print(1)")
    (tmp_path / "link").symlink_to("train")
    for name in ("train", "link"):
        check_program(command_of(str(tmp_path / name), []))
    check_program(PythonCommand(Source.MODULE, "none"))


def test_refused_before_anything_is_done(tmp_path):
    """The exit code is 2, as for other mistakes in a command."""
    ended = run(tmp_path, "-")
    assert ended.code == 2
    assert "'-' is no file" in ended.one("refused")["reason"]
    assert not list(tmp_path.iterdir())
