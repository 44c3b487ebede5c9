"""Run pip, as a program of this environment."""

from __future__ import annotations

import importlib.util
import subprocess  # nosec B404 # starts pip
import sys
from collections.abc import Sequence
from pathlib import Path


def has_pip() -> bool:
    """Return whether this environment has pip: those that uv makes have none."""
    return importlib.util.find_spec("pip") is not None


def run_pip(
    python: Sequence[str], arguments: Sequence[str], folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run pip to its end, and return its exit code with what it has written.

    Args:
        python: Python's own options, with the module that is pip.
        arguments: those of pip.
        folder: where it runs; None: in the current folder.
    """
    general = ("--disable-pip-version-check", "--no-input", "--no-color")
    return subprocess.run(  # noqa: S603 # nosec B603 # pip, with arguments of our own
        [sys.executable, *python, *arguments, *general],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
