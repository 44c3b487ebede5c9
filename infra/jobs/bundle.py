"""A script's folder as one archive, named after its content."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import stat
import tarfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from keepfit.infra.jobs import dockerignore

ALWAYS_EXCLUDED = ("**/.git", "**/__pycache__", "**/.venv", "**/.ipynb_checkpoints", "runs")
"""Patterns before those of .dockerignore, which may include the files again with a `!`."""

OVERHEAD = 512
"""Bytes of a file's header in the archive."""

EXTRA_SCAN_SECONDS = 0.5
"""Seconds to look for other large files after the limit is exceeded."""

LIMIT = 100 << 20
"""Bytes of all files. Code is small; larger files are data, which belong in S3 or in the image."""


MAX_UNPACKED = 8 << 30
"""Bytes of all files that a job unpacks at most, whatever the archive contains."""


class BundleError(Exception):
    """The folder can't be archived; the message names the file and the fix."""


@dataclass(frozen=True)
class Bundle:
    """The archive of a folder.

    Attributes:
        digest: SHA-256 of the content, in hex; equal files give an equal digest.
        content: a compressed tar archive.
        files: number of files in it.
    """

    digest: str
    content: bytes
    files: int


def pack_bundle(folder: Path, limit: int = LIMIT, *, script: str | None = None) -> Bundle:
    """Archive the files of `folder` that .dockerignore does not exclude.

    Args:
        script: the file that the archive must contain.

    Raises:
        BundleError: the files are too large, an entry is not a regular file, or a link leads out of
            the folder.
    """
    names = list(_names(folder, limit))
    if script is not None and script not in names:
        raise BundleError(
            f"{folder / '.dockerignore'} excludes {script} itself; include it again with a line "
            f"!{script}, and likewise the files that it needs"
        )
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in names:
            _add(archive, folder, name)
    content = gzip.compress(plain.getvalue(), mtime=0)
    return Bundle(hashlib.sha256(content).hexdigest(), content, len(names))


def unpack_bundle(content: bytes, folder: Path, limit: int = MAX_UNPACKED) -> None:
    """Write the archive's files and links into `folder`, which exists, and nowhere else.

    `extractall` is not used: its filters are missing in Python 3.11.2, which Debian 12 has.

    Args:
        limit: bytes of all files, with OVERHEAD for each entry.

    Raises:
        BundleError: an entry is not a file of the folder or a link within it, or the files are too
            large; none in an archive of `pack_bundle` is.
    """
    left = limit
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            for entry in archive:
                left -= OVERHEAD + max(0, entry.size)
                if left < 0:
                    raise BundleError(f"the archive has more than {limit >> 20} MiB")
                _unpack_entry(archive, entry, folder)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BundleError(f"it is not an archive: {error}") from error


def _unpack_entry(archive: tarfile.TarFile, entry: tarfile.TarInfo, folder: Path) -> None:
    name = PurePosixPath(entry.name)
    if not (entry.isreg() or entry.issym()):
        raise BundleError(f"{entry.name} is not a regular file")
    if name.is_absolute() or ".." in name.parts or "\0" in entry.name:
        raise BundleError(f"{entry.name} leads out of the folder")
    path = folder / name
    leads_to = path.parent / entry.linkname if entry.issym() else path
    if not all(p.resolve().is_relative_to(folder.resolve()) for p in (path, leads_to)):
        raise BundleError(f"{entry.name} leads out of the folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    if entry.issym():
        path.symlink_to(entry.linkname)
    elif file := archive.extractfile(entry):
        with open(path, "xb") as written:
            shutil.copyfileobj(file, written)
        path.chmod(entry.mode & 0o777)


def _names(folder: Path, limit: int) -> Iterator[str]:
    """Yield the names of all files and links, without reading any file.

    Raises:
        BundleError: the files so far exceed the limit, or an entry can't be archived.
    """
    sizes: Counter[str] = Counter()
    walked = dockerignore.walk(folder, _patterns(folder))
    for name in walked:
        found = (folder / name).lstat()
        if stat.S_ISLNK(found.st_mode):
            _check_link(folder, name)
        elif not stat.S_ISREG(found.st_mode):
            raise BundleError(
                f"{folder / name} is not a regular file; exclude it in {folder / '.dockerignore'}"
            )
        sizes[_part(name)] += found.st_size + OVERHEAD
        if sizes.total() > limit:
            raise _too_large(folder, limit, sizes, walked)
        yield name


def _patterns(folder: Path) -> list[dockerignore.Pattern]:
    ignored = folder / ".dockerignore"
    text = ignored.read_bytes().decode("utf-8-sig", "surrogateescape") if ignored.is_file() else ""
    try:
        return dockerignore.parse_patterns([*ALWAYS_EXCLUDED, *text.split("\n")])
    except dockerignore.InvalidPattern as error:
        raise BundleError(f"{ignored}: {error}") from error


def _part(name: str) -> str:
    """Return a file at the top, or the folder of the file, limited to its first two levels."""
    return "/".join(name.split("/")[:-1][:2]) or name


def _largest(sizes: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the entries to exclude: a top-level folder, or the part that fills most of it."""
    tops: dict[str, Counter[str]] = {}
    for part, size in sizes.items():
        tops.setdefault(part.partition("/")[0], Counter())[part] += size
    found: Counter[str] = Counter()
    for top, parts in tops.items():
        (part, size), *_ = parts.most_common(1)
        fills = size > parts.total() / 2
        found[part if fills else top] = size if fills else parts.total()
    return found.most_common(3)


def _too_large(folder: Path, limit: int, sizes: Counter[str], others: Iterator[str]) -> BundleError:
    """Continue to look for a moment, so that the error names everything that is large."""
    until = time.monotonic() + EXTRA_SCAN_SECONDS
    for name in others:
        sizes[_part(name)] += (folder / name).lstat().st_size + OVERHEAD
        if time.monotonic() > until:
            break
    large = ", ".join(f"{part}: {size >> 20} MiB" for part, size in _largest(sizes))
    return BundleError(
        f"{folder} has more than {limit >> 20} MiB ({large}); exclude files that the job does not "
        f"need in {folder / '.dockerignore'}, read data from S3, or raise --max-size"
    )


def _check_link(folder: Path, name: str) -> None:
    """Check that the link is valid on another machine, where the folder has another name."""
    target = (folder / name).readlink()
    stays_inside = not os.path.normpath(Path(name).parent / target).startswith("..")
    if not stays_inside or target.is_absolute() or not _resolves_inside(folder, name):
        raise BundleError(
            f"{folder / name} points to {target}, outside the folder, which the job lacks; "
            f"copy the target, or exclude the link in {folder / '.dockerignore'}"
        )


def _resolves_inside(folder: Path, name: str) -> bool:
    return (folder / name).resolve().is_relative_to(folder.resolve())


def _add(archive: tarfile.TarFile, folder: Path, name: str) -> None:
    """Add a file without its times and owner, which differ from copy to copy."""
    path = folder / name
    entry = tarfile.TarInfo(name)
    if path.is_symlink():
        entry.type, entry.linkname = tarfile.SYMTYPE, str(path.readlink())
        archive.addfile(entry)
        return
    content = path.read_bytes()
    entry.size = len(content)
    entry.mode = 0o755 if os.access(path, os.X_OK) else 0o644
    archive.addfile(entry, io.BytesIO(content))
