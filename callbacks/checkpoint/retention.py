"""Which checkpoints stay in force, and what may be deleted: pure decisions, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from keepfit.callbacks.checkpoint.manifest import Manifest, attempt_of


class Retention(Protocol):
    """Chooses among the manifests' keys, the newest first, those that stay."""

    def keep(self, checkpoints: Sequence[str]) -> Sequence[str]: ...


@dataclass(frozen=True)
class KeepNewest:
    """The `count` newest; older ones are there for when the newest is damaged."""

    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"keep must be at least 1. Received: keep={self.count}")

    def keep(self, checkpoints: Sequence[str]) -> Sequence[str]:
        return checkpoints[: self.count]


def unreferenced(keys: Iterable[str], kept: Mapping[str, Manifest], attempt: int) -> list[str]:
    """What `attempt` may delete of `keys`, in a safe order: manifests before what they name.

    Nothing that a kept manifest names, nothing of a newer attempt, and no object that is neither
    a manifest nor a shard nor a log's part.

    Args:
        kept: the manifests in force, by key.
    """
    used = {key for manifest in kept.values() for key in manifest.objects()} | kept.keys()
    candidates = [
        key
        for key in keys
        if key not in used and (writer := attempt_of(key)) is not None and writer <= attempt
    ]
    return sorted(candidates, key=lambda key: (not key.endswith(".json"), key))
