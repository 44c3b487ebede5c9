"""The packages that the image has already, which requirements neither replace nor duplicate."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Final
from zipfile import ZipFile

_TABLE = Path(__file__).with_name("image-packages.csv")

BUILDS: Final = ("tensorflow", "tensorflow-cpu")
"""Names of builds of TensorFlow; an image has one of them, and requirements name any."""

PROTECTED_MODULES: Final = ("keepfit", "keras", "numpy", "tensorflow")
"""Modules that no other package may bring: with a second one, trainings would differ."""

EXTRAS: Final[Mapping[str, frozenset[str]]] = {
    "boto3": frozenset({"crt"}),
    "tensorflow": frozenset({"and-cuda"}),
    "keepfit": frozenset({"cpu", "gpu"}),
}
"""Extras of the image's packages that the image has installed too."""


def image_packages(*, gpu: bool) -> Mapping[str, str]:
    """Return the versions of the image's packages by name, as its lock file pins them."""
    with _TABLE.open(newline="") as file:
        rows = csv.DictReader(file)
        found = {row["name"]: row["gpu" if gpu else "cpu"] for row in rows}
    found = {name: pinned for name, pinned in found.items() if pinned}
    builds = [found[name] for name in BUILDS if name in found]
    found |= dict.fromkeys(BUILDS, builds[0])
    return MappingProxyType(found | {"keepfit": version("keepfit")})


def write_stand_ins(packages: Mapping[str, str], folder: Path) -> Path:
    """Write an empty wheel for each of the image's packages, and a file that requires all of them.

    pip then neither downloads these packages nor chooses other versions. The wheels have no
    dependencies: the image has these too. Constraints instead of requirements would not apply to
    `boto3[crt]`, as pip does not apply a URL to a package with extras.
    """
    lines = []
    for name, pinned in packages.items():
        wheel = folder / f"{name.replace('-', '_')}-{pinned}-py3-none-any.whl"
        _write_empty_wheel(wheel, name, pinned)
        lines.append(f"{name} @ {wheel.as_uri()}")
    file = folder / "image.txt"
    file.write_text("\n".join(lines))
    return file


def _write_empty_wheel(path: Path, name: str, pinned: str) -> None:
    info = f"{name.replace('-', '_')}-{pinned}.dist-info"
    extras = "".join(f"Provides-Extra: {extra}\n" for extra in sorted(EXTRAS.get(name, ())))
    with ZipFile(path, "w") as archive:
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {pinned}\n{extras}"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
