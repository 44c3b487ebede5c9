"""The keys of a run's objects; docs/format.md lists them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from keepfit.callbacks.checkpoint.format.key_names import key_component, shorten
from keepfit.callbacks.storage.base import MAX_KEY_BYTES

_NUMBER = r"\d{4,10}"
_MANIFEST = re.compile(rf"checkpoints/\d{{10,16}}-({_NUMBER})-{_NUMBER}\.json", re.ASCII)
_SHARD = re.compile(rf"shards/[0-9a-f]{{64}}-({_NUMBER})\.safetensors", re.ASCII)
_JOURNAL = re.compile(rf"attempts/({_NUMBER})\.json", re.ASCII)
_PART = re.compile(rf"logs/[^\x00-\x1f\x7f]+/(\d{{12,16}})-({_NUMBER})-{_NUMBER}", re.ASCII)


def head_key(run: str) -> str:
    """Return the key of the run's HEAD."""
    return f"{run}/HEAD.json"


def manifest_key(run: str, step: int, attempt: int, sequence: int) -> str:
    """Return the key of a manifest.

    `sequence` distinguishes two checkpoints of the same step: one after the batch, one when the fit
    has finished.
    """
    return f"{run}/checkpoints/{step:010d}-{attempt:04d}-{sequence:04d}.json"


def shard_key(run: str, digest: str, attempt: int) -> str:
    """Return the key of a shard.

    It contains the attempt's number so that no attempt ever deletes a newer attempt's shard: an
    older attempt that is still alive deletes only keys of its own or of older attempts, and of
    those only the ones that its last HEAD did not keep; a newer attempt uses the shards of that
    HEAD and those under its own keys.
    """
    return f"{run}/shards/{digest}-{attempt:04d}.safetensors"


def part_key(run: str, name: str, start: int, attempt: int, sequence: int) -> str:
    """Return the key of a part of a callback's file.

    Args:
        name: the file's path, made fit for a key.
        start: offset in bytes of the part within the file.
    """
    return f"{run}/logs/{name}/{start:012d}-{attempt:04d}-{sequence:04d}"


def artifact_key(run: str, name: str) -> str:
    """Return the key of a whole file for users. keepfit neither reads nor deletes it."""
    return f"{run}/artifacts/{name}"


def journal_key(run: str, attempt: int) -> str:
    """Return the key of an attempt's journal. That attempt alone writes it."""
    return f"{journals_prefix(run)}{attempt:04d}.json"


def journals_prefix(run: str) -> str:
    """Return the prefix of the keys of all journals."""
    return f"{run}/attempts/"


def journal_attempt(run: str, key: str) -> int | None:
    """Return the attempt whose journal has this key; None if it is the key of another object."""
    match = _JOURNAL.fullmatch(key.removeprefix(f"{run}/")) if key.startswith(f"{run}/") else None
    return int(match[1]) if match else None


def report_key(run: str, name: str) -> str:
    """Return the key of a marker: this report has been sent, and must not be sent again."""
    return f"{reports_prefix(run)}{key_component(name)}"


def reports_prefix(run: str) -> str:
    """Return the prefix of the keys of all markers of reports."""
    return f"{run}/reports/"


class Kind(Enum):
    """The kinds of objects that an attempt writes, and that a later one may delete."""

    MANIFEST = "manifest"
    SHARD = "shard"
    PART = "part of a file"


@dataclass(frozen=True)
class RunKey:
    """The key of a run's object, taken apart.

    Attributes:
        kind: the kind of the object.
        attempt: number of the attempt that has written it.
        start: offset in bytes of a part within its file; None for other kinds.
    """

    kind: Kind
    attempt: int
    start: int | None = None


class ForeignKey(ValueError):
    """A document names a key that is not one of its run, or not one of the expected kind."""


def parse_key(run: str, key: str) -> RunKey | None:
    """Return the parts of the key of a manifest, shard or file part of this run.

    Everything that keepfit deletes, or reads because a document names it, has passed this function.

    Returns:
        The parts; None for any other key: of another run, with `..` in it, or of another object.
    """
    if not key.startswith(f"{run}/") or len(key.encode(errors="surrogatepass")) > MAX_KEY_BYTES:
        return None
    name = key.removeprefix(f"{run}/")
    if match := _MANIFEST.fullmatch(name):
        return RunKey(Kind.MANIFEST, int(match[1]))
    if match := _SHARD.fullmatch(name):
        return RunKey(Kind.SHARD, int(match[1]))
    if (match := _PART.fullmatch(name)) and not {"", ".", ".."} & set(name.split("/")):
        return RunKey(Kind.PART, int(match[2]), start=int(match[1]))
    return None


def check_key(run: str, key: str, kind: Kind) -> RunKey:
    """Return the parts of a key that a document names.

    Raises:
        ForeignKey: it is not the key of an object of this kind in this run.
    """
    parsed = parse_key(run, key)
    if parsed is None or parsed.kind is not kind:
        raise ForeignKey(f"{shorten(repr(key), 200)} is not the key of a {kind.value} of {run!r}")
    return parsed


def attempt_of(run: str, key: str) -> int | None:
    """Return the attempt that wrote a manifest, shard or file part; None for any other object."""
    parsed = parse_key(run, key)
    return parsed.attempt if parsed else None


def newest_attempt(run: str, keys: Iterable[str]) -> int:
    """Return the number of the newest attempt that has written one of the objects; 0 if none."""
    return max((attempt_of(run, key) or 0 for key in keys), default=0)
