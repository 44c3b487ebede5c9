"""Run measurements in processes of their own, whose memory nothing else has touched."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LIMIT = 900
"""Timeout of a measurement, in seconds."""


def measure(module: str, *arguments: str) -> Any:
    """Run a module in a new process and return the JSON value in its last line of output.

    Raises:
        SystemExit: the process failed; the message contains its standard error.
    """
    process = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    if process.returncode:
        sys.exit(f"{process.stderr}\nscripts/bench: {module} {' '.join(arguments)} failed")
    return json.loads(process.stdout.splitlines()[-1])
