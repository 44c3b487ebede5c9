"""Run measurements in processes of their own, whose memory nothing else has touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LIMIT = 900
"""Timeout of a measurement, in seconds."""


def measure(module: str, *arguments: str, root: Path = ROOT) -> Any:
    """Run a module in a new process and return the JSON value in its last line of output.

    Args:
        module: name of the module in benchmarks/.
        arguments: of the process.
        root: root of the repository, or of a copy at another commit.

    Raises:
        SystemExit: the process failed; the message contains its exit code and its output, in which
            keepfit's log is.
    """
    process = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=root / "benchmarks",
        env=os.environ | {"PYTHONPATH": str(root / "src")},  # before the installed package
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    if process.returncode:
        sys.exit(
            f"{process.stderr}{process.stdout}\nscripts/bench: exit code {process.returncode} of "
            f"{module} {' '.join(arguments)}"
        )
    return json.loads(process.stdout.splitlines()[-1])
