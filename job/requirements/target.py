"""The platform of a job's image, for which requirements are resolved on another machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PYTHON: Final = "3.11"
"""The Python of the image (Dockerfile)."""

_GLIBC_MINOR: Final = 36
"""The image has glibc 2.36 (Debian 12)."""

PLATFORMS: Final = (
    *(f"manylinux_2_{minor}_x86_64" for minor in range(_GLIBC_MINOR, 4, -1)),
    "manylinux2014_x86_64",
    "manylinux2010_x86_64",
    "manylinux1_x86_64",
    "linux_x86_64",
)
"""The platform tags of wheels that fit the image, the best first. pip derives none itself."""

MARKERS: Final[Mapping[str, str]] = {
    "implementation_name": "cpython",
    "implementation_version": "3.11.16",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_release": "",
    "platform_system": "Linux",
    "platform_version": "",
    "python_full_version": "3.11.16",
    "python_version": PYTHON,
    "sys_platform": "linux",
}
"""The values of environment markers in the image."""


def pip_options() -> list[str]:
    """Return the options that let pip choose wheels for the image."""
    platforms = [option for name in PLATFORMS for option in ("--platform", name)]
    abi = f"cp{PYTHON.replace('.', '')}"
    python = ["--python-version", PYTHON, "--implementation", "cp", "--abi", abi]
    return ["--only-binary=:all:", *python, *platforms]
