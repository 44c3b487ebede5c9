"""Resolve requirements to wheels for the image, with pip and the user's own configuration of it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import ValidationError

from keepfit.callbacks.masking import mask_known_of
from keepfit.job.requirements.checks import (
    FoundWheel,
    check_asked,
    check_sources,
    check_wheels,
    read_wheel,
)
from keepfit.job.requirements.document import Requirements, Wheel
from keepfit.job.requirements.image_packages import write_stand_ins
from keepfit.job.requirements.pip import has_pip, run_pip
from keepfit.job.requirements.source import (
    IndexUnreachable,
    RequirementsError,
    Source,
    read_source,
)
from keepfit.job.requirements.target import PYTHON, pip_options

_UNREACHED = re.compile(
    "Connection broken|NewConnectionError|ConnectTimeout|ReadTimeout|NameResolutionError|Retrying "
)
_NO_MATCH = re.compile(r"No matching distribution found for (\S+)")
_ADVICE = re.compile(r"For more information|ResolutionImpossible|^\s*$|\[notice\]")
_SAID = re.compile(r"(?:ERROR|WARNING(?=: 4\d\d Error)): (.*)")
_LINE = re.compile(r"-r \S+ \(line (\d+)\)")
_OF_HASH = re.compile(r"^\s+(\S+==\S+) from .*:$", re.MULTILINE)
_FROM_FILE = re.compile(r" \(from \S+none-any\.whl\)")
_STAND_IN = re.compile(r"The user requested (\S+ \S+) \(from .*none-any\.whl\)")


@dataclass(frozen=True)
class Resolution:
    """The wheels of a job on this machine.

    Attributes:
        document: what the store and the attempts know of them.
        paths: the files, by their names.
        folder: the folder of the files, which is deleted with this object.
    """

    document: Requirements
    paths: Mapping[str, Path]
    folder: TemporaryDirectory[str]


def resolve(path: Path, image: Mapping[str, str]) -> Resolution | None:
    """Return the wheels for the requirements of a file; None if the image has all of them.

    Args:
        image: the versions of the image's packages by name.

    Raises:
        IndexUnreachable: the package index did not answer.
        RequirementsError: there is no solution, or a package has no wheel.
    """
    source = read_source(path)
    check_sources(source.lines, path.name)
    check_asked(source.named(), image, path.name)
    folder = TemporaryDirectory(prefix="keepfit-wheels-")
    resolved = False
    try:
        wheels = _download(source, image, Path(folder.name))
        used = check_wheels(wheels, source.named(), image)
        resolved = bool(wheels)
        return _resolution(wheels, used, image, folder) if wheels else None
    finally:
        if not resolved:
            folder.cleanup()


def _resolution(
    wheels: Sequence[FoundWheel],
    used: frozenset[str],
    image: Mapping[str, str],
    folder: TemporaryDirectory[str],
) -> Resolution:
    try:
        document = Requirements(
            python=PYTHON,
            wheels=tuple(_described(wheel) for wheel in sorted(wheels, key=lambda w: w.name)),
            provided={name: image[name] for name in sorted(used)},
        )
    except ValidationError as error:
        raise RequirementsError(
            f"the requirements can't be stored: {error.errors()[0]['msg']}"
        ) from error
    return Resolution(document, {wheel.path.name: wheel.path for wheel in wheels}, folder)


def _described(wheel: FoundWheel) -> Wheel:
    with wheel.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Wheel(
        name=wheel.name,
        version=wheel.version,
        file=wheel.path.name,
        sha256=digest,
        size=wheel.path.stat().st_size,
    )


def _download(source: Source, image: Mapping[str, str], folder: Path) -> list[FoundWheel]:
    """Let pip download the wheels that the image lacks."""
    if not has_pip():
        raise RequirementsError(
            f"{source.path.name} can't be resolved without pip, which this environment lacks: add "
            f"it with `python -m ensurepip` or `uv pip install pip`, or use --no-requirements"
        )
    target = folder / "wheels"
    target.mkdir()
    options = ["--dest", str(target), *_files(source, image, folder)]
    built = source.path.resolve().parent / "wheels"
    options += ["--find-links", str(built)] if built.is_dir() else []
    _run_pip(["download", *pip_options(), *options], source)
    wheels = map(read_wheel, sorted(target.iterdir()))
    return [wheel for wheel in wheels if wheel.name not in image]


def _files(source: Source, image: Mapping[str, str], folder: Path) -> list[str]:
    """Return pip's options for the requirements.

    The file itself is given where that is possible: paths in it are relative to it.
    """
    given = source.path.resolve()
    if source.hashed:  # an empty wheel has another hash than the image's package
        given = folder / "requirements.txt"
        given.write_text(source.without(image), encoding="utf-8")
        return ["--no-deps", "--requirement", str(given)]
    if source.path.name.endswith(".toml"):
        given = folder / "requirements.txt"
        given.write_text("\n".join(source.lines), encoding="utf-8")
    stand_ins = folder / "image"
    stand_ins.mkdir()
    has = write_stand_ins(image, stand_ins)
    # First: pip must know the empty wheels when it meets the first line that names such a package.
    return ["--requirement", str(has), "--requirement", str(given)]


def _run_pip(arguments: Sequence[str], source: Source) -> None:
    """Run pip in the folder of the file.

    Raises:
        RequirementsError: it fails; the message has pip's own reason.
    """
    module = ["-P", "-m", "keepfit.job.requirements.pip_for_image"]
    done = run_pip(module, [*arguments, "--progress-bar", "off"], source.path.resolve().parent)
    if done.returncode:
        raise explain(source.path.name, done.stdout, done.stderr)


def explain(file: str, output: str, errors: str) -> RequirementsError:
    """Return the error for what pip has written, without passwords of URLs."""
    lines = [line.strip() for line in errors.splitlines() if not _ADVICE.search(line)]
    said = [found[1] for line in lines if (found := _SAID.match(line))]
    said += _OF_HASH.findall(errors)
    reason = _LINE.sub(r"line \1", " ".join(said or lines[-1:]) or "pip gave no reason")
    reason = _FROM_FILE.sub(" of the image", reason)
    reason = mask_known_of(os.environ, reason)
    if _UNREACHED.search(errors):
        return IndexUnreachable(
            f"{file}: the package index was not reached: {reason}; try again, or set another index "
            f"in pip's configuration"
        )
    if match := _NO_MATCH.search(errors):
        return RequirementsError(
            f"{file}: there is no wheel of {match[1]} for Python {PYTHON} on Linux x86_64 "
            f"({reason}): correct the line, put a wheel of your own into a folder wheels/ beside "
            f"the file, or install it in an image (--image, --no-requirements)"
        )
    conflict = mask_known_of(os.environ, _conflict(output))
    shown = f"{reason} {conflict}".strip()
    return RequirementsError(f"{file} can't be resolved: {shown}; correct the lines in the file")


def _conflict(output: str) -> str:
    """Return pip's lines on a conflict, up to its advice. Empty wheels stand for the image's."""
    _, _, lines = output.partition("The conflict is caused by:")
    lines, _, _ = lines.partition("To fix this")
    found = (_STAND_IN.sub(r"the image has \1", line.strip()) for line in lines.splitlines())
    return "; ".join(filter(None, found))
