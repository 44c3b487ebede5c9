"""The keys of a run's objects; docs/format.md lists them."""

from __future__ import annotations

import re

from keepfit.callbacks.checkpoint.format.key_names import key_component


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


def report_key(run: str, name: str) -> str:
    """Return the key of a marker: this report has been sent, and must not be sent again."""
    return f"{reports_prefix(run)}{key_component(name)}"


def reports_prefix(run: str) -> str:
    """Return the prefix of the keys of all markers of reports."""
    return f"{run}/reports/"


_ATTEMPT_KEY = re.compile(
    r"[^/]+/(?:checkpoints/\d{10,}-(\d{4,})-\d{4,}\.json"
    r"|shards/[0-9a-f]{64}-(\d{4,})\.safetensors"
    r"|logs/.+/\d{12,}-(\d{4,})-\d{4,})",
    re.ASCII | re.DOTALL,
)


def attempt_of(key: str) -> int | None:
    """Return the attempt that wrote a manifest, shard or file part; None for any other object."""
    match = _ATTEMPT_KEY.fullmatch(key)
    return int(match[1] or match[2] or match[3]) if match else None
