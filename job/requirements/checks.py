"""Checks of resolved wheels: they and the image's packages must satisfy all requirements."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from keepfit.job.requirements.image_packages import BUILDS, EXTRAS, PROTECTED_MODULES
from keepfit.job.requirements.source import RequirementsError
from keepfit.job.requirements.target import MARKERS

_SOURCE_CODE = re.compile(r"^(-e|--editable)\b|(git|hg|svn|bzr)\+")


@dataclass(frozen=True)
class FoundWheel:
    """A wheel on this machine.

    Attributes:
        name: the normalized name of its package.
        requires: its dependencies, with their markers.
        modules: the names that can be imported.
    """

    path: Path
    name: str
    version: str
    requires: tuple[Requirement, ...]
    modules: frozenset[str]


def read_wheel(path: Path) -> FoundWheel:
    """Return what a file says of itself.

    Raises:
        RequirementsError: it is not a wheel.
    """
    try:
        name, version, *_ = parse_wheel_filename(path.name)
        with ZipFile(path) as archive:
            names = archive.namelist()
            (info,) = (n for n in names if n.count("/") == 1 and n.endswith(".dist-info/METADATA"))
            metadata = BytesHeaderParser().parsebytes(archive.read(info))
        requires = tuple(Requirement(text) for text in metadata.get_all("Requires-Dist", ()))
    except (InvalidWheelFilename, InvalidRequirement, BadZipFile, ValueError, OSError) as error:
        raise RequirementsError(
            f"{path.name} is not a wheel ({error}); requirements of source code, such as a "
            f"repository or a folder, have to be built first: pip wheel --no-deps -w wheels …"
        ) from error
    modules = {n.partition("/")[0].removesuffix(".py") for n in names if _is_module(n)}
    return FoundWheel(path, str(name), str(version), requires, frozenset(modules))


def _is_module(name: str) -> bool:
    return name.endswith("/__init__.py") or ("/" not in name and name.endswith(".py"))


def check_sources(lines: Iterable[str], file: str) -> None:
    """Check that no line names source code to be built, which differs from build to build.

    Raises:
        RequirementsError: a line does.
    """
    for line in lines:
        if found := _SOURCE_CODE.search(line):
            raise RequirementsError(
                f"{file} names source code ({found[0].strip()}…), which has no wheel: build one "
                f"with `pip wheel --no-deps -w wheels …`, and require the package by its name"
            )


def check_asked(asked: Iterable[Requirement], image: Mapping[str, str], file: str) -> None:
    """Check the versions that a file asks for of the image's packages.

    Raises:
        RequirementsError: the image has another version of one.
    """
    for requirement in asked:
        has = image.get(canonicalize_name(requirement.name))
        if has and not requirement.specifier.contains(has, prereleases=True):
            raise RequirementsError(
                f"{file} asks for {_shown(requirement)}, and the image has {requirement.name} "
                f"{has}, which keepfit's checkpoints rely on: change the line, or build an image "
                f"with other versions and submit with --image and --no-requirements"
            )


def check_wheels(
    wheels: Sequence[FoundWheel], asked: Sequence[Requirement], image: Mapping[str, str]
) -> frozenset[str]:
    """Check that all requirements are satisfied, and return the image's packages among them.

    pip has resolved them; but a file with hashes, which names all dependencies, may lack one.

    Raises:
        RequirementsError: a requirement is not satisfied, or a wheel replaces TensorFlow or Keras.
    """
    for wheel in wheels:
        if replaced := sorted(wheel.modules & {*PROTECTED_MODULES}):
            raise RequirementsError(
                f"{wheel.name} {wheel.version} brings a module {replaced[0]} of its own, which the "
                f"image has: require {replaced[0]} itself, or build an image with {wheel.name}"
            )
    there = {wheel.name: wheel for wheel in wheels}
    used: set[str] = set()
    left = deque((requirement, "the file") for requirement in asked)
    left.extend(found for wheel in wheels for found in _dependencies(wheel, {""}))
    seen: set[tuple[str, frozenset[str]]] = set()
    while left:
        requirement, asker = left.popleft()
        name = canonicalize_name(requirement.name)
        if resolved := there.get(name):
            _check_version(requirement, asker, resolved.version)
            extras = frozenset(requirement.extras)
            if extras and (name, extras) not in seen:
                seen.add((name, extras))
                left.extend(_dependencies(resolved, extras))
        else:
            _check_provided(requirement, asker, image)
            used.add(name)
    return frozenset(used)


def _dependencies(wheel: FoundWheel, extras: Iterable[str]) -> list[tuple[Requirement, str]]:
    """Return the dependencies of a wheel that apply to the image, each with its asker."""
    return [
        (requirement, f"{wheel.name} {wheel.version}")
        for requirement in wheel.requires
        if requirement.marker is None
        or any(requirement.marker.evaluate({**MARKERS, "extra": extra}) for extra in extras)
    ]


def _check_provided(requirement: Requirement, asker: str, image: Mapping[str, str]) -> None:
    name = canonicalize_name(requirement.name)
    if name not in image:
        raise RequirementsError(
            f"{asker} needs {_shown(requirement)}, which was not resolved: add it to the file"
        )
    _check_version(requirement, asker, image[name])
    known = EXTRAS.get("tensorflow" if name in BUILDS else name, frozenset())
    if missing := sorted({*requirement.extras} - known):
        raise RequirementsError(
            f"{asker} needs {requirement.name}[{missing[0]}], and the image has "
            f"{requirement.name} without this extra: require the packages of the extra by name"
        )


def _check_version(requirement: Requirement, asker: str, version: str) -> None:
    if not requirement.specifier.contains(version, prereleases=True):
        raise RequirementsError(
            f"{asker} needs {_shown(requirement)}, and {requirement.name} {version} is used: "
            f"correct the versions in the file"
        )


def _shown(requirement: Requirement) -> str:
    """Return the requirement without its URL, which may have a password."""
    return f"{requirement.name}{requirement.specifier}"
