"""What a process of keepfit imports: only what it uses."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

LIBRARIES = ("boto3", "botocore", "jinja2", "keras", "numpy", "requests", "tensorflow")
PROBE = f"""
import atexit, sys
from keepfit.job.cli import main
def show():
    print("imported", *[name for name in {LIBRARIES} if name in sys.modules])
atexit.register(show)
main()
"""


def imported(folder, *arguments: str) -> list[str]:
    """Run `keepfit` in a new process, and return the LIBRARIES that it has imported."""
    (folder / "train.py").touch()  # empty, unless the test has written it
    environment = {k: v for k, v in os.environ.items() if not k.startswith("KEEPFIT_")}
    ended = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        cwd=folder,
        env=environment | {"AWS_EC2_METADATA_DISABLED": "true"},
        capture_output=True,
        text=True,
        check=True,
    )
    marker, *names = ended.stdout.splitlines()[-1].split()
    assert marker == "imported"
    return names


@pytest.mark.parametrize(
    "arguments",
    [("run", "train.py"), ("run", "--restarts", "1", "train.py"), ("--help",), ("ls",)],
    ids=" ".join,
)
def test_no_library_in_vain(tmp_path, arguments):
    """A script without training, the help and an empty store need none of them."""
    assert imported(tmp_path, *arguments) == []


def test_the_probe_sees_imports(tmp_path):
    """A script that imports a library is seen to do so."""
    (tmp_path / "train.py").write_text("import numpy")
    assert imported(tmp_path, "run", "train.py") == ["numpy"]
