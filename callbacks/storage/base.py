"""The Store protocol: what a safe commit needs of S3 or of a directory, and nothing else.

Why this suffices: everything but HEAD is written once under a name of its own, whole or not at
all, so a crash leaves at most unused objects. HEAD is the only thing that changes, and `swap`
lets exactly one of any number of writers change it. A commit is therefore one atomic step, the
swap, however many objects lead up to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NewType, Protocol

Buffer = bytes | memoryview
Body = Sequence[Buffer]
Version = NewType("Version", str)
"""Names one content of one key; S3's ETag, a digest in a directory."""


class StorageError(Exception):
    """The store could not do what was asked; the message names the store, the key and the cause."""


class NotFound(StorageError):
    """There is no such object."""


class AlreadyExists(StorageError):
    """The key is taken, and keys are written once."""


class Conflict(StorageError):
    """Another writer changed the key first."""


class Damaged(StorageError):
    """The object is there, but it is not what was written."""


class Transient(StorageError):
    """The outcome is unknown: read back before trying again."""


@dataclass(frozen=True)
class Entry:
    """One object of a listing: its key and its size in bytes."""

    key: str
    size: int


class Store(Protocol):
    """Where checkpoints live: immutable objects, and one that is swapped.

    Keys are relative, with `/` between their parts. Every method may raise StorageError.
    """

    @property
    def uri(self) -> str:
        """The address, as the user would write it."""

    @property
    def parallel(self) -> int:
        """How many objects are worth writing at once; `put` may be called by so many threads."""

    def put(self, key: str, body: Body, *, digest: str | None = None) -> None:
        """Write `body`, the concatenation of its buffers, once.

        Args:
            digest: its SHA-256 in hex, where that is known already.

        Raises:
            AlreadyExists: `key` is taken; its content is left alone.
        """

    def swap(self, key: str, body: bytes, *, expected: Version | None) -> Version:
        """Replace `key` if it is still at `expected` (None: if it does not exist).

        Raises:
            Conflict: another writer was first.
            Transient: the outcome is unknown.
        """

    def load(self, key: str) -> tuple[bytes, Version]:
        """The content and version of a small object. Raises NotFound."""

    def read_into(self, key: str, into: memoryview) -> None:
        """Fill `into` with the object, which must have exactly that size.

        Raises:
            NotFound: there is no such object.
            Damaged: its size is another.
        """

    def list(self, prefix: str) -> Iterator[Entry]:
        """All objects whose key begins with `prefix`, in order of their keys."""

    def folders(self, prefix: str) -> Iterator[str]:
        """What stands between `prefix`, which is empty or ends with `/`, and the next `/`."""

    def delete(self, key: str) -> None:
        """Remove `key`; a key that is not there is as good as removed."""

    def clear_unfinished(self, prefix: str) -> None:
        """Remove what killed writers left half-written under `prefix`.

        A writer that is still alive then fails to finish its object, so this is for the one who
        has fenced every other writer off.
        """

    def move(self, source: str, target: str) -> None:
        """Give every object under the prefix `source` a key under `target`, which is empty."""
