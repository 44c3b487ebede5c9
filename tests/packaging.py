"""keepfit as users install it: a wheel, in an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

from tests.e2e.process import ROOT

BUILD = "import sys; from setuptools import build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])"


def sources(folder: Path) -> Path:
    """Copy the repository's files, links as links, to a folder that a build may write to."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        source, target = ROOT / name, folder / name
        if source.is_symlink() or source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    return folder


def build(kind: str, tree: Path, out: Path) -> Path:
    """Build a "wheel" or an "sdist" of the tree, with the build back end of pyproject.toml."""
    out.mkdir(parents=True)
    subprocess.run(
        [sys.executable, "-c", BUILD, f"build_{kind}", str(out)],
        cwd=tree,
        check=True,
        capture_output=True,
    )
    (built,) = out.iterdir()
    return built


def contents(wheel: Path) -> dict[str, bytes]:
    """Return the files of a wheel by name."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def environment(folder: Path, wheel: Path) -> Path:
    """Make an environment with the wheel and the dependencies of this one. Return its `bin`."""
    venv.create(folder, with_pip=False)
    places = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", places))
    # A folder that a .pth file names is on the path, but the .pth files in it, such as the one of
    # this environment's editable install, are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = folder / "bin/python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", str(wheel)], check=True)
    return folder / "bin"


def clean_environment() -> dict[str, str]:
    """Return the variables of this process without Python's search path."""
    left_out = ("PYTHONPATH", "PYTHONSAFEPATH", "VIRTUAL_ENV")
    return {k: v for k, v in os.environ.items() if k not in left_out}
