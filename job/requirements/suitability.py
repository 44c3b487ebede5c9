"""Checks that wheels fit the image of an attempt, which may be another one than at submit."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable

from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename
from packaging.version import Version

from keepfit.job.requirements.document import Requirements, Wheel
from keepfit.job.requirements.image_packages import BUILDS


class Unsuitable(Exception):
    """The image and the requirements don't fit each other; the message names cause and fix."""


def installed_version(name: str) -> str | None:
    """Return the version of an installed package; None if it is not installed."""
    for found in BUILDS if name in BUILDS else (name,):
        try:
            return importlib.metadata.version(found)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def missing_wheels(
    document: Requirements, installed: Callable[[str], str | None] = installed_version
) -> list[Wheel]:
    """Return the wheels of packages that the image lacks.

    Raises:
        Unsuitable: a wheel does not fit this Python or this machine, or the image has another
            version of a package.
    """
    own = ".".join(platform.python_version_tuple()[:2])
    if own != document.python:
        raise Unsuitable(
            f"the requirements were resolved for Python {document.python}, and the image has "
            f"Python {own}: use an image with Python {document.python}, or install the packages "
            f"in it and submit with --no-requirements"
        )
    for name, wanted in document.provided.items():
        _check(name, wanted, installed(name), "relied on")
    lacking = []
    for wheel in document.wheels:
        has = installed(wheel.name)
        if has is None:
            lacking.append(wheel)
        else:
            _check(wheel.name, wheel.version, has, "resolved to")
    tags = frozenset(sys_tags())
    for wheel in lacking:
        if tags.isdisjoint(parse_wheel_filename(wheel.file)[3]):
            raise Unsuitable(
                f"{wheel.file} does not fit this machine ({platform.machine()}) or the C library "
                f"of the image: use an image like keepfit's own, or install {wheel.name} in it"
            )
    return lacking


def _check(name: str, wanted: str, has: str | None, verb: str) -> None:
    if has is None or Version(has) != Version(wanted):
        raise Unsuitable(
            f"the requirements were {verb} {name} {wanted}, and the image has "
            f"{has or 'no such package'}: pin {name} to the image's version in the file, submit "
            f"with the keepfit of the image, or install all packages in the image and submit with "
            f"--no-requirements"
        )
