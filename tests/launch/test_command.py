"""Python's command line is parsed as Python does it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from keepfit.callbacks.launch.command import PythonCommand, Source, parse_command

SHOW = "import sys, json; print(json.dumps([sys.orig_argv, sys.argv]))\n"

COMMANDS = {
    "a script": (["mine.py", "-m", "--lr", "0.1"], Source.SCRIPT, "mine.py"),
    "options before it": (
        ["-u", "-Wignore", "-X", "dev", "mine.py", "x"],
        Source.SCRIPT,
        "mine.py",
    ),
    "values that follow": (["-BW", "ignore", "-Xutf8", "mine.py", "-c"], Source.SCRIPT, "mine.py"),
    "a long option": (
        ["--check-hash-based-pycs", "always", "mine.py", "a b"],
        Source.SCRIPT,
        "mine.py",
    ),
    "the end of the options": (["-u", "--", "mine.py", "--", "x"], Source.SCRIPT, "mine.py"),
    "a module": (["-m", "mine", "-u", "x"], Source.MODULE, "mine"),
    "a module in a cluster": (["-Bum", "mine", "-c", "x"], Source.MODULE, "mine"),
    "a module without a space": (["-ummine", "x"], Source.MODULE, "mine"),
    "a command": (["-c", SHOW, "x"], Source.COMMAND, ""),
    "a command in a cluster": (["-uc", SHOW], Source.COMMAND, ""),
    "standard input": (["-u"], Source.INPUT, ""),
    "standard input by name": (["-", "x"], Source.INPUT, ""),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_as_python_does(tmp_path, case):
    """The arguments are those that Python itself gives to the code."""
    options, source, target = COMMANDS[case]
    (tmp_path / "mine.py").write_text(SHOW)
    command = [sys.executable, *options]
    ended = subprocess.run(command, cwd=tmp_path, input=SHOW, text=True, stdout=subprocess.PIPE)
    orig_argv, argv = json.loads(ended.stdout)
    found = parse_command(orig_argv)
    assert (found.source, found.target) == (source, target)
    if source in (Source.SCRIPT, Source.MODULE):
        assert list(found.arguments) == argv[1:]


@pytest.mark.parametrize("command", [[], ["python"], ["python", "-W"], ["python", "-X"]])
def test_nothing_to_run(command):
    """A command line that names nothing reads from standard input."""
    assert parse_command(command) == PythonCommand(Source.INPUT)
