"""Measurements in processes of their own, whose memory nothing else has touched."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LIMIT = 900
"""Seconds after which a measurement has failed."""


def measure(module: str, *arguments: str) -> Any:
    """What the module prints as JSON in its last line.

    Raises:
        SystemExit: it failed; with what it has said.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    if done.returncode:
        sys.exit(f"{done.stderr}\nscripts/bench: {module} {' '.join(arguments)} failed")
    return json.loads(done.stdout.splitlines()[-1])
