"""Read checkpoints from the store into arrays; every byte is verified before any of it is used."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.format.codec import Array, UnreadableState, decode_once
from keepfit.callbacks.checkpoint.format.manifest import Manifest, StoredShard, StoredTensor
from keepfit.callbacks.checkpoint.format.shards import digest
from keepfit.callbacks.checkpoint.format.state_schema import ANY_STATE, InvalidState, StateSchema
from keepfit.callbacks.checkpoint.read.documents import NoUsableCheckpoint, read_manifest
from keepfit.callbacks.checkpoint.read.parallel import parallel_map
from keepfit.callbacks.checkpoint.snapshot import DTYPES
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.storage.base import Damaged, NotFound, StorageError, Store

log = get_logger()

PARALLEL_READS = min(8, os.cpu_count() or 1)
"""Number of shards read at once; memory use never exceeds the checkpoint's size."""

SMALL_READ = 1 << 20
"""Bytes up to which shards in a directory are read and hashed faster without threads."""

MAX_READS = 2
"""Number of reads before an object counts as damaged: it may be corrupted on the way."""

NO_SHARDS: Mapping[StoredShard, Array] = MappingProxyType({})


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint in memory.

    Attributes:
        key: the manifest's key.
        arrays: every tensor by name; views of the shards' memory.
        state: the decoded values of the snapshot's `state`, arrays included.
    """

    key: str
    manifest: Manifest
    arrays: Mapping[str, Array]
    state: dict[str, Any]


def read_shards(
    store: Store, shards: Sequence[StoredShard], prefetched: Mapping[StoredShard, Array] = NO_SHARDS
) -> list[Array]:
    """Read and verify shards, several at once.

    Args:
        prefetched: shards that have been read and verified before.

    Returns:
        The bytes of each shard, uint8, in the order of `shards`.

    Raises:
        NotFound: a shard is missing.
        Damaged: a shard is not what was written.
    """

    def read(shard: StoredShard) -> Array:
        return prefetched[shard] if shard in prefetched else _read_shard(store, shard)

    large = sum(shard.size for shard in shards) > SMALL_READ
    return parallel_map(read, shards, PARALLEL_READS if large or store.parallel > 1 else 1)


def read_checkpoint(
    store: Store, run: str, key: str, prefetched: Mapping[StoredShard, Array] = NO_SHARDS
) -> Checkpoint:
    """Read and verify the checkpoint whose manifest is at `key`.

    Args:
        prefetched: shards that have been read and verified before.

    Raises:
        NotFound: the manifest or a shard is missing.
        Damaged: one of them is not what was written.
    """
    return _read_checkpoint(store, key, read_manifest(store, run, key), prefetched, ANY_STATE)


def manifests_of_fit(
    store: Store,
    run: str,
    keys: Iterable[str],
    fit: int,
    rejected: Callable[[str, StorageError], None],
    schema: StateSchema = ANY_STATE,
) -> Iterator[tuple[str, Manifest]]:
    """Yield the readable manifests that belong to `fit`, by key, in the order of `keys`.

    Args:
        keys: the manifests' keys, the newest first; they may belong to several fits.
        rejected: called with the key of a manifest that is missing or damaged, and the error.
        schema: the schema of the state; what does not validate is damaged.

    Raises:
        StorageError: the store itself failed, which tells nothing about the manifests.
    """
    for key in keys:
        try:
            manifest = read_manifest(store, run, key)
        except (NotFound, Damaged) as error:
            rejected(key, error)
            continue
        if manifest.position.fit != fit:
            continue
        try:
            schema.check_manifest(manifest)
        except InvalidState as error:
            rejected(key, _unusable(store, key, error))
            continue
        yield key, manifest


def _read_checkpoint(
    store: Store,
    key: str,
    manifest: Manifest,
    prefetched: Mapping[StoredShard, Array],
    schema: StateSchema,
) -> Checkpoint:
    shards = dict(enumerate(read_shards(store, manifest.shards, prefetched)))
    arrays = {t.name: array_of(t, shards) for t in manifest.tensors}
    try:
        state = decode_once(manifest.state, arrays)
        schema.check_state(state, arrays)
    except (UnreadableState, InvalidState) as error:
        raise _unusable(store, key, error) from error
    return Checkpoint(key, manifest, arrays, state)


def read_newest_usable(
    store: Store,
    run: str,
    keys: Iterable[str],
    *,
    fit: int,
    prefetched: Mapping[StoredShard, Array] = NO_SHARDS,
    schema: StateSchema = ANY_STATE,
) -> Checkpoint | None:
    """Read the first checkpoint of `keys` that can be verified and belongs to `fit`.

    Each checkpoint that can't be verified is logged.

    Args:
        keys: the manifests' keys, the newest first.
        fit: index of the fit in the script.
        prefetched: shards that have been read and verified before.
        schema: the schema of the state; what does not validate is damaged.

    Returns:
        The checkpoint; None if this fit has none.

    Raises:
        NoUsableCheckpoint: a checkpoint was rejected, and no other one can be used.
        StorageError: the store itself failed, which tells nothing about the checkpoints.
    """
    rejected: list[str] = []

    def reject(key: str, error: StorageError) -> None:
        rejected.append(key)
        log.error(events.CHECKPOINT_REJECTED, checkpoint=key, reason=str(error))

    for key, manifest in manifests_of_fit(store, run, keys, fit, reject, schema):
        try:
            return _read_checkpoint(store, key, manifest, prefetched, schema)
        except (NotFound, Damaged) as error:
            reject(key, error)
    if not rejected:
        return None
    raise NoUsableCheckpoint(
        f"run {run!r} in {store.uri} has checkpoints, but none of them can be used; "
        f"start over with --fresh, which moves the old run aside, or restore the missing objects"
    )


def _unusable(store: Store, key: str, error: ValueError) -> Damaged:
    """Return the error of a checkpoint whose state does not validate."""
    return Damaged(f"{store.uri}/{key} has a state that can't be used: {error}")


def _read_shard(store: Store, shard: StoredShard) -> Array:
    try:
        data = np.empty(shard.size, np.uint8)
    except (MemoryError, ValueError, OverflowError) as error:
        raise Damaged(f"{store.uri}/{shard.key} can't have {shard.size} bytes") from error
    for _ in range(MAX_READS):
        store.read_into(shard.key, data.data)
        if (actual := digest([data.data])) == shard.digest:
            return data
    raise Damaged(f"{store.uri}/{shard.key} has SHA-256 {actual} instead of {shard.digest}")


def array_of(tensor: StoredTensor, shards: Mapping[int, Array]) -> Array:
    """Return a tensor as a view of its shard's memory; copied only if it is not aligned.

    Args:
        shards: the bytes of each shard that was read, by its index.
    """
    dtype = DTYPES[tensor.dtype]
    data = shards[tensor.shard][tensor.offset : tensor.offset + tensor.size]
    if tensor.offset % dtype.itemsize:
        data = data.copy()
    return data.view(dtype).reshape(tensor.shape)
