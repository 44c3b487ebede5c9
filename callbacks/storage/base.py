"""The Store protocol: the guarantees that a safe commit needs, and nothing else.

Why they suffice: every object except HEAD is written once under its own key and appears whole or
not at all, so a crash leaves at most unused objects. HEAD is the only object that changes, and
`swap` succeeds for exactly one of any number of writers. A commit is therefore one atomic step,
the swap, however many objects are written before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NewType, Protocol

Buffer = bytes | memoryview
Body = Sequence[Buffer]
Version = NewType("Version", str)
"""Identifies one content of one key: S3's ETag, or a digest in a directory."""


MAX_KEY_BYTES = 1024
"""Longest key in bytes of UTF-8, as in S3
(docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html)."""

MAX_LOAD = 64 << 20
"""Bytes that `load` reads at most, unless it is told otherwise: a document has no more."""


def every_key(_: str) -> bool:
    """Return True: no object is in flight."""
    return True


class StorageError(Exception):
    """The store could not do the operation; the message names the store, the key and the cause."""


class NotFound(StorageError):
    """The object does not exist."""


class AlreadyExists(StorageError):
    """An object with this key exists, and keys are written once."""


class Conflict(StorageError):
    """Another writer changed the key first."""


class Damaged(StorageError):
    """The object exists, but its content is not what was written."""


def too_large(where: str, size: int, limit: int) -> Damaged:
    """Return the error of an object that is larger than what is read."""
    return Damaged(f"{where} has {size} bytes, and at most {limit} are read; remove or replace it")


class Transient(StorageError):
    """The outcome is unknown: read back before trying again."""


@dataclass(frozen=True)
class Entry:
    """One object of a listing: its key and its size in bytes."""

    key: str
    size: int


@dataclass(frozen=True)
class Replacement:
    """The new content of an object whose old content is moved; the arguments of a swap."""

    key: str
    body: bytes
    expected: Version | None


class Store(Protocol):
    """A store of checkpoints: immutable objects, and one object that is swapped.

    S3 gives these guarantees by conditional writes, a POSIX directory by rename and a lock. Keys
    are relative to the store, with `/` between their parts. Every method may raise StorageError.
    """

    @property
    def uri(self) -> str:
        """The URI of the store, as the user would write it."""

    @property
    def parallel(self) -> int:
        """The number of threads that may usefully call `put` at once."""

    def put(self, key: str, body: Body, *, digest: str | None = None) -> None:
        """Write `body`, the concatenation of its buffers, once.

        Args:
            digest: the SHA-256 of the body in hex, if it is known already.

        Raises:
            AlreadyExists: an object with this key exists; it is not changed.
        """

    def swap(self, key: str, body: bytes, *, expected: Version | None) -> Version:
        """Replace `key` if it is still at version `expected` (None: if it does not exist).

        Returns:
            The new version.

        Raises:
            Conflict: another writer was first.
            Transient: the outcome is unknown; read back before trying again.
        """

    def load(self, key: str, limit: int = MAX_LOAD) -> tuple[bytes, Version]:
        """Return the content and the version of a small object.

        Args:
            limit: size in bytes above which nothing is read.

        Raises:
            NotFound: the object does not exist.
            Damaged: the object is larger than `limit`, or is not a regular file.
        """

    def version_of(self, key: str) -> Version:
        """Return the version of an object of any size, without keeping its content in memory.

        Raises:
            NotFound: the object does not exist.
        """

    def read_into(self, key: str, into: memoryview) -> None:
        """Fill `into` with the object, which must have exactly that size.

        Raises:
            NotFound: the object does not exist.
            Damaged: the object has another size, or is not a regular file; nothing was written.
        """

    def list(self, prefix: str) -> Iterator[Entry]:
        """Yield all objects whose key begins with `prefix`, in order of their keys."""

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the names between `prefix`, which is empty or ends with `/`, and the next `/`."""

    def delete(self, key: str) -> None:
        """Delete `key`; it is no error if it does not exist."""

    def clear_unfinished(self, prefix: str, older: Callable[[str], bool] = every_key) -> None:
        """Remove the unfinished objects under `prefix` that killed writers have left.

        A writer that is still alive then fails to finish its object; so only the attempt that has
        fenced every other writer off may call this.

        Args:
            older: returns whether this key may be the one of an older attempt's object; the others
                stay, since they may be in flight.
        """

    def move(self, source: str, target: str, *, replace: Replacement | None = None) -> None:
        """Move every object from the prefix `source` to `target`, which has no objects.

        Args:
            replace: what takes the place of one of the objects. The copy is complete before, and
                nothing is deleted until then.

        Raises:
            Conflict: that object has changed since; nothing was deleted, and a copy may be left.
        """
