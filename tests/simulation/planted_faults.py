"""Faults in the order of calls, planted into the real code: the explorer has to find each of them.

Each function changes one rule of the code by `patch`, and leaves everything else as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import pytest

from keepfit.callbacks.checkpoint.commit import attempt as attempts
from keepfit.callbacks.checkpoint.commit import claim as claims
from keepfit.callbacks.checkpoint.commit.attempt import Attempt
from keepfit.callbacks.checkpoint.commit.claim import FoundRun
from keepfit.callbacks.checkpoint.commit.head_writer import HeadWriter
from keepfit.callbacks.checkpoint.commit.object_writer import ObjectWriter
from keepfit.callbacks.checkpoint.format.keys import attempt_of, head_key
from keepfit.callbacks.checkpoint.format.manifest import Manifest
from keepfit.callbacks.checkpoint.read import inspection
from keepfit.callbacks.checkpoint.read.documents import read_head
from keepfit.callbacks.checkpoint.retention import unreferenced
from keepfit.callbacks.storage.base import (
    Conflict,
    NotFound,
    Replacement,
    Store,
    Transient,
)
from keepfit.callbacks.storage.s3.store import S3Store

Plant = Callable[[pytest.MonkeyPatch], None]

ANY_ATTEMPT = 10**6


class WithoutManifests:
    """A store that keeps manifests back until they are asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.waiting: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put(self, key: str, body: Any, *, digest: str | None = None) -> None:
        if key.endswith(".json"):
            self.waiting.append((key, body))
        else:
            self._store.put(key, body, digest=digest)

    def write(self) -> None:
        """Write what was kept back."""
        while self.waiting:
            self._store.put(*self.waiting.pop())


def head_before_manifest(patch: pytest.MonkeyPatch) -> None:
    """A commit swaps HEAD before it writes the manifest."""
    store_checkpoint, swap = ObjectWriter.store_checkpoint, Attempt._swap

    def keeping_back(self: ObjectWriter, *args: Any, **more: Any) -> Any:
        if not isinstance(self._store, WithoutManifests):
            self._store = WithoutManifests(self._store)
        return store_checkpoint(self, *args, **more)

    def swap_then_write(self: Attempt, **changes: object) -> None:
        swap(self, **changes)
        if isinstance(self._objects._store, WithoutManifests):
            self._objects._store.write()

    patch.setattr(ObjectWriter, "store_checkpoint", keeping_back)
    patch.setattr(Attempt, "_swap", swap_then_write)


def deletion_before_swap(patch: pytest.MonkeyPatch) -> None:
    """A commit deletes the checkpoints that it drops before it swaps HEAD."""
    swap = Attempt._swap

    def delete_then_swap(self: Attempt, **changes: Any) -> None:
        for key in set(self.head.checkpoints) - set(changes.get("checkpoints", ())):
            self._store.delete(key)
        swap(self, **changes)

    patch.setattr(Attempt, "_swap", delete_then_swap)


def sweep_of_any_attempt(patch: pytest.MonkeyPatch) -> None:
    """A sweep deletes what newer attempts have written, too: an older one may be alive."""

    def all_others(
        run: str, keys: Iterable[str], kept: Mapping[str, Manifest], before: int
    ) -> list[str]:
        found = unreferenced(run, keys, kept, ANY_ATTEMPT)
        return [key for key in found if attempt_of(run, key) != before + 1]

    patch.setattr(attempts, "unreferenced", all_others)


def unconditional_claim(patch: pytest.MonkeyPatch) -> None:
    """A claim replaces whatever HEAD there is, not only the one that it has found."""
    claim = claims.claim

    def claim_whatever_is_there(store: Store, run: str, found: FoundRun, **more: Any) -> Attempt:
        try:
            version = store.load(head_key(run))[1]
        except NotFound:
            version = None
        return claim(store, run, FoundRun(found.head, version), **more)

    patch.setattr(claims, "claim", claim_whatever_is_there)


def prune_of_newest_attempt(patch: pytest.MonkeyPatch) -> None:
    """`keepfit prune` deletes what the newest attempt has stored and HEAD does not name yet."""

    def with_newest(
        run: str, keys: Iterable[str], kept: Mapping[str, Manifest], before: int
    ) -> list[str]:
        return unreferenced(run, keys, kept, before + 1)

    patch.setattr(inspection, "unreferenced", with_newest)


def prune_of_objects_in_force(patch: pytest.MonkeyPatch) -> None:
    """`keepfit prune` deletes the objects of the oldest manifest while HEAD still names it."""

    def without_oldest(
        run: str, keys: Iterable[str], kept: Mapping[str, Manifest], before: int
    ) -> list[str]:
        return unreferenced(run, keys, dict(list(kept.items())[:-1]), before)

    patch.setattr(inspection, "unreferenced", without_oldest)


def unclear_swap_taken_for_failed(patch: pytest.MonkeyPatch) -> None:
    """A swap whose outcome is unknown counts as failed, and its objects are deleted."""
    swap = HeadWriter.swap

    def give_up(self: HeadWriter, changes: dict[str, object]) -> None:
        try:
            swap(self, changes)
        except Transient:
            self._unresolved = None
            raise

    commit_manifest = Attempt._commit_manifest

    def delete_after_failure(self: Attempt, key: str, *args: Any, **more: Any) -> None:
        try:
            commit_manifest(self, key, *args, **more)
        except Transient:
            self._cleanup.delete([key])
            raise

    patch.setattr(HeadWriter, "swap", give_up)
    patch.setattr(Attempt, "_commit_manifest", delete_after_failure)


def recovery_without_second_look(patch: pytest.MonkeyPatch) -> None:
    """A claim that finds no HEAD lists the objects, and does not read HEAD again."""

    def find_run(store: Store, run: str, *, after: int = 0) -> FoundRun:
        loaded = read_head(store, run)
        if after > 0 and (loaded.version is None or claims._is_of(after, loaded.head)):
            return FoundRun(None, loaded.version)
        if loaded.head:
            return FoundRun(loaded.head, loaded.version)
        objects = claims._list_objects(store, run)
        return FoundRun(claims._recover_head(store, run, objects, loaded), loaded.version)

    patch.setattr(claims, "find_run", find_run)


def move_that_deletes_first(patch: pytest.MonkeyPatch) -> None:
    """`--fresh` deletes the old run before HEAD is swapped, whoever has claimed it meanwhile."""

    def move(self: Store, source: str, target: str, *, replace: Replacement) -> None:
        real(self, source, target)
        with suppress(Conflict):
            self.swap(replace.key, replace.body, expected=None)

    real = S3Store.move
    patch.setattr(S3Store, "move", move)
