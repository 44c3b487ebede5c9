"""A store as a pure function: contents and a call give new contents and an answer.

It has the guarantees of storage/base.py and no others: a key is written once, `swap` compares
versions, a listing shows one moment. `repeat` is what the store of S3 does by itself when the
answer to a call that took effect is lost: it sends the call again, and reads back what it finds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keepfit.callbacks.storage.base import (
    AlreadyExists,
    Conflict,
    Damaged,
    NotFound,
    StorageError,
    Version,
)

Contents = Mapping[str, bytes]
"""Every object of the store by key; never changed in place."""

WRITES = frozenset({"put", "swap", "delete", "copy", "move"})
"""The operations that change the store."""


@dataclass(frozen=True)
class Call:
    """One call of an actor to the store.

    Attributes:
        operation: put, swap, load, read, list, folders, delete, copy or move.
        key: the key, or the prefix of a listing or of a move.
        body: the bytes to write.
        expected: the version that `swap` and `move` compare; None if the key must not exist.
        target: where `copy` and `move` write.
        checked: the key whose version `move` compares; "" if none.
        size: number of bytes that `read` expects.
    """

    operation: str
    key: str
    body: bytes = b""
    expected: Version | None = None
    target: str = ""
    checked: str = ""
    size: int = 0

    @property
    def writes(self) -> bool:
        """True if the call may change the store."""
        return self.operation in WRITES

    def __str__(self) -> str:
        return " ".join(
            filter(None, (self.operation, self.key, self.target and f"-> {self.target}"))
        )


@dataclass(frozen=True)
class Answer:
    """The answer to a call: a value, or the kind of error that the caller gets."""

    value: Any = None
    error: type[StorageError] | None = None

    def __str__(self) -> str:
        return self.error.__name__ if self.error else "ok"


OK = Answer()


def version_of(body: bytes) -> Version:
    """Return the version of this content: equal contents have equal versions, as with an ETag."""
    return Version(hashlib.md5(body, usedforsecurity=False).hexdigest())


def _version(body: bytes | None) -> Version | None:
    return None if body is None else version_of(body)


def apply(contents: Contents, call: Call) -> tuple[Contents, Answer]:
    """Carry out one call; return the new contents and the answer."""
    if call.writes:
        return _write(contents, call)
    return contents, _read(contents, call)


def repeat(contents: Contents, call: Call) -> tuple[Contents, Answer]:
    """Carry out a call again after it took effect and its answer was lost."""
    changed, answer = apply(contents, call)
    if answer.error and call.operation in ("put", "swap") and contents.get(call.key) == call.body:
        return contents, Answer(version_of(call.body)) if call.operation == "swap" else OK
    return changed, answer


def _write(contents: Contents, call: Call) -> tuple[Contents, Answer]:
    present = contents.get(call.key)
    match call.operation:
        case "put" if present is not None:
            return contents, Answer(error=AlreadyExists)
        case "put":
            return {**contents, call.key: call.body}, OK
        case "swap" if call.expected != _version(present):
            return contents, Answer(error=Conflict)
        case "swap":
            return {**contents, call.key: call.body}, Answer(version_of(call.body))
        case "delete":
            return {key: body for key, body in contents.items() if key != call.key}, OK
        case "copy" if present is None:
            return contents, Answer(error=NotFound)
        case "copy":
            return {**contents, call.target: present}, OK
        case "move":
            return _move(contents, call)
    raise ValueError(f"unknown operation {call.operation}")


def _move(contents: Contents, call: Call) -> tuple[Contents, Answer]:
    """Rename a folder in one step, as a directory does it."""
    source, target = f"{call.key}/", f"{call.target}/"
    if call.checked and call.expected != _version(contents.get(call.checked)):
        return contents, Answer(error=Conflict)
    if any(key.startswith(target) for key in contents):
        return contents, Answer(error=AlreadyExists)
    moved = {
        target + key.removeprefix(source) if key.startswith(source) else key: body
        for key, body in contents.items()
    }
    return moved, OK if moved != contents else Answer(error=NotFound)


def _read(contents: Contents, call: Call) -> Answer:
    if call.operation == "list":
        found = ((key, len(body)) for key, body in contents.items() if key.startswith(call.key))
        return Answer(tuple(sorted(found)))
    if call.operation == "folders":
        below = (key.removeprefix(call.key) for key in contents if key.startswith(call.key))
        return Answer(tuple(sorted({key.partition("/")[0] for key in below if "/" in key})))
    body = contents.get(call.key)
    if body is None:
        return Answer(error=NotFound)
    if call.operation == "read" and len(body) != call.size:
        return Answer(error=Damaged)
    return Answer(body)
