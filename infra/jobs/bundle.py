"""A script's folder as one archive, named after its content."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.jobs import ignoring

LEFT_OUT = ("**/.git", "**/__pycache__", "**/.venv", "**/.ipynb_checkpoints", "runs")
"""Before .dockerignore is read, which may name them again with a `!`."""

LIMIT = 100 << 20
"""Bytes of all files. Code is small; what is larger is data, which belongs into S3 or the image."""


class NotBundled(Exception):
    """The folder can't be sent; the message names what is in the way, and the way out."""


@dataclass(frozen=True)
class Bundle:
    """The archive of a folder.

    Attributes:
        digest: SHA-256 of the content, in hex: the same files give the same.
        content: a compressed tar archive.
        files: how many it holds.
    """

    digest: str
    content: bytes
    files: int


def pack(folder: Path, limit: int = LIMIT) -> Bundle:
    """Archive the files of `folder` that .dockerignore does not leave out.

    Raises:
        NotBundled: they are too large, or one is no file, or leads out of the folder.
    """
    names = list(_within(folder, limit))
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in names:
            _add(archive, folder, name)
    content = gzip.compress(plain.getvalue(), mtime=0)
    return Bundle(hashlib.sha256(content).hexdigest(), content, len(names))


def unpack(content: bytes, folder: Path) -> None:
    """Write the archive's files and links to `folder`, which is there, and nothing outside of it.

    Not by `extractall`: its filters are missing in Python 3.11.2, which Debian 12 has.

    Raises:
        NotBundled: something in it leads out of the folder; no archive of `pack` has that.
    """
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        for entry in archive:
            path = folder / entry.name
            leads_to = path.parent / entry.linkname if entry.issym() else path
            if not all(p.resolve().is_relative_to(folder.resolve()) for p in (path, leads_to)):
                raise NotBundled(f"{entry.name} leads out of the folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            if entry.issym():
                path.symlink_to(entry.linkname)
            elif file := archive.extractfile(entry):
                path.write_bytes(file.read())
                path.chmod(entry.mode)


def _within(folder: Path, limit: int) -> Iterator[str]:
    """The names of all files and links. It stops as soon as there is too much: nothing is read."""
    ignored = folder / ".dockerignore"
    lines = ignored.read_text().splitlines() if ignored.is_file() else []
    try:
        patterns = ignoring.patterns([*LEFT_OUT, *lines])
    except ignoring.NoPattern as error:
        raise NotBundled(f"{ignored}: {error}") from error
    sizes: Counter[str] = Counter()
    for name in ignoring.walk(folder, patterns):
        found = (folder / name).lstat()
        if stat.S_ISLNK(found.st_mode):
            _check_link(folder, name)
        elif not stat.S_ISREG(found.st_mode):
            raise NotBundled(f"{folder / name} is no file; name it in {ignored}")
        sizes[name.partition("/")[0]] += found.st_size
        if sizes.total() > limit:
            raise NotBundled(
                f"{folder} holds more than {limit >> 20} MiB (so far "
                f"{', '.join(f'{n}: {size >> 20} MiB' for n, size in sizes.most_common(3))}); "
                f"name what the job does not need in {ignored}, have data read from S3, or raise "
                f"--max-size"
            )
        yield name


def _check_link(folder: Path, name: str) -> None:
    target = (folder / name).readlink()
    if target.is_absolute() or not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise NotBundled(
            f"{folder / name} leads to {target}, out of the folder, where the job can't follow; "
            f"copy it, or name it in {folder / '.dockerignore'}"
        )


def _add(archive: tarfile.TarFile, folder: Path, name: str) -> None:
    """Without times and owners, which differ from copy to copy."""
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
