"""Install the wheels of a job in an attempt, offline, where Python finds them."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from keepfit.callbacks import events
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.storage.base import Store
from keepfit.job.machine.working_space import can_load_from
from keepfit.job.private_folder import make_private_folder
from keepfit.job.requirements.document import Wheel
from keepfit.job.requirements.pip import has_pip, run_pip
from keepfit.job.requirements.stored import download_wheels, load_document
from keepfit.job.requirements.suitability import Unsuitable, missing_wheels

log = get_logger()


def install_requirements(store: Store, digest: str, run: str) -> None:
    """Install the wheels of the stored document into a folder of their own, and import from it.

    The folder is the same on every machine, like that of the code.

    Raises:
        Damaged: the document or a wheel is not the one that was uploaded.
        StorageError: the store can't be read.
        Unsuitable: the image and the requirements don't fit each other.
        OSError: the folder can't be written.
    """
    began = time.monotonic()
    wheels = missing_wheels(load_document(store, digest))
    folder = make_private_folder(Path(tempfile.gettempdir()) / f"keepfit-{run}-packages")
    if wheels:
        _check_can_execute(folder, wheels)
        downloads = folder / "wheels"
        downloads.mkdir()
        _unpack(download_wheels(store, wheels, downloads), folder / "site")
        shutil.rmtree(downloads)
        _import_from(folder / "site")
    log.info(
        events.REQUIREMENTS_INSTALLED,
        requirements=digest,
        wheels=len(wheels),
        seconds=round(time.monotonic() - began, 1),
    )


def _check_can_execute(folder: Path, wheels: Sequence[Wheel]) -> None:
    """Check that shared libraries of the wheels, if there are any, can be loaded."""
    has_libraries = any(not wheel.file.endswith("-any.whl") for wheel in wheels)
    if has_libraries and not can_load_from(folder):
        raise Unsuitable(
            f"libraries in {folder} can't be loaded, because its file system is mounted with "
            f"noexec: set TMPDIR to a folder on another one, or mount it with exec"
        )


def _unpack(wheels: Sequence[Path], target: Path) -> None:
    """Let pip install the wheels, without a network and whatever its configuration says.

    Raises:
        Unsuitable: the image has no pip, or a wheel can't be installed.
    """
    if not has_pip():
        raise Unsuitable(
            "the image has no pip to install the requirements: add it, or install the packages in "
            "the image and submit with --no-requirements"
        )
    options = ["--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--quiet"]
    options += ["--target", str(target)]
    module = ["-I", "-m", "pip", "--isolated"]
    done = run_pip(module, ["install", *options, *map(str, wheels)])
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = " ".join(line for line in lines if line.startswith("ERROR")) or " ".join(
            lines[-1:]
        )
        raise Unsuitable(f"pip can't install the requirements: {reason or 'it gave no reason'}")


def _import_from(site: Path) -> None:
    """Let this process and its children import from the folder, after the script's own."""
    position = 0 if sys.flags.safe_path else 1
    sys.path.insert(position, str(site))
    importlib.invalidate_caches()
    for name, folder in (("PYTHONPATH", site), ("PATH", site / "bin")):
        usual = os.environ.get(name)
        os.environ[name] = f"{folder}{os.pathsep}{usual}" if usual else str(folder)
