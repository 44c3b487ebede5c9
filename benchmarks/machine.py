"""Describe the machine and the packages of a measurement."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def machine(*packages: str) -> str:
    """Return the processor, memory, load, and the versions of Python and of installed packages."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    info = Path("/proc/cpuinfo")
    models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
    names = ("keepfit", "keras", "tensorflow", "tensorflow-cpu", "numpy", *packages)
    return (
        f"{os.cpu_count()} cores ({models[0].split(': ')[1] if models else platform.machine()}), "
        f"{memory:.0f} GiB of memory, load {os.getloadavg()[1]:.1f}; "
        f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {number}" for name in names if (number := _version(name)))
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
