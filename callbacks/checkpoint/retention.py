"""Which checkpoints are kept, and which objects may be deleted: pure decisions, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from keepfit.callbacks.checkpoint.format.head import Head
from keepfit.callbacks.checkpoint.format.keys import attempt_of
from keepfit.callbacks.checkpoint.format.manifest import Manifest


class Retention(Protocol):
    """A policy that decides which checkpoints are kept."""

    def keep(self, checkpoints: Sequence[str]) -> Sequence[str]:
        """Return the manifest keys to keep, out of all of them, the newest first."""


@dataclass(frozen=True)
class KeepNewest:
    """Keeps the `count` newest checkpoints; the older ones are used if the newest is damaged."""

    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"keep must be at least 1. Received: keep={self.count}")

    def keep(self, checkpoints: Sequence[str]) -> Sequence[str]:
        return checkpoints[: self.count]


def finished_fits(
    head: Head, committed: Mapping[str, Manifest], continuation: str | None = None
) -> dict[str, dict[int, str]]:
    """Return HEAD's fields about finished fits after a commit.

    A finished fit that trains again is not finished any more, and one whose variables are dropped
    can't be continued.

    Args:
        committed: the manifests by key: those that replace manifests of finished fits, and the new
            checkpoint.
        continuation: key of the continuation of the fit that the checkpoint ends, if it has one.
    """
    finished, continuations = dict(head.finished), dict(head.continuations)
    for key, manifest in committed.items():
        fit = manifest.position.fit
        finished.pop(fit, None)
        continuations.pop(fit, None)
        if manifest.position.finished:
            finished[fit] = key
            if continuation and manifest.has_variables:
                continuations[fit] = continuation
    return {"finished": finished, "continuations": continuations}


def unreferenced(
    run: str, keys: Iterable[str], kept: Mapping[str, Manifest], attempt: int
) -> list[str]:
    """Return the keys that `attempt` may delete, in a safe order: manifests before their objects.

    These are keys of this run's manifests, shards and file parts, except those that a kept manifest
    names and those of a newer attempt.

    Args:
        keys: the candidates.
        kept: the manifests of the checkpoints to keep, by key.
        attempt: number of the attempt that deletes.
    """
    used = {key for manifest in kept.values() for key in manifest.objects()} | kept.keys()
    candidates = [
        key
        for key in keys
        if key not in used and (writer := attempt_of(run, key)) is not None and writer <= attempt
    ]
    return sorted(candidates, key=lambda key: (not key.endswith(".json"), key))
