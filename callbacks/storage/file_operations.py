"""The file operations of a durable store, behind one interface that tests can make fail."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keepfit.callbacks.storage.base import Body


class FileOperations:
    """POSIX operations with explicit guarantees: a crash may follow after each method."""

    def write(self, path: Path, body: Body) -> None:
        """Write `body` to the file `path`; it is not durable before `sync`."""
        with open(path, "xb", buffering=1 << 20) as file:
            file.writelines(body)

    def sync(self, path: Path) -> None:
        """Make the content of a file, or the names in a directory, survive a power failure."""
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        """Replace `target` by `source`, atomically."""
        os.replace(source, target)

    def remove(self, path: Path) -> None:
        """Remove a file; it is no error if it does not exist."""
        path.unlink(missing_ok=True)

    def make_folder(self, path: Path) -> None:
        """Create a directory; its name is not durable before its parent is synced."""
        path.mkdir(exist_ok=True)

    @contextmanager
    def locked(self, path: Path) -> Iterator[None]:
        """Hold an exclusive lock among processes; the kernel releases it if the holder dies.

        Raises:
            BlockingIOError: another process holds the lock, or has just moved its folder away.
        """
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(fd, path):
                raise BlockingIOError(errno.EWOULDBLOCK, "the lock was moved")
            yield
        finally:
            # A process that the script has forked meanwhile has the descriptor as well, so closing
            # it here would not release the lock.
            fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)


class NotRegular(OSError):
    """The path is a folder, a link, a pipe or a device; an object is a regular file."""


def open_regular(path: Path) -> int:
    """Open a regular file for reading and return its descriptor, without waiting for a pipe.

    Raises:
        NotRegular: the path is something else.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, a socket
            raise NotRegular(error.errno, "it is not a regular file") from error
        raise
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise NotRegular(errno.EINVAL, f"it is {kind}")
    return fd


def _is_at(fd: int, path: Path) -> bool:
    """Return True if the open file still has this path."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
