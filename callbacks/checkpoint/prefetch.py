"""Reads a run's newest checkpoint before anybody asks for it: while a script still imports.

To import TensorFlow takes seconds of one processor, in which the network has nothing to do. What is
read meanwhile needs no claim: shards are written once and are verified, so whoever has claimed the
run by then takes those that the manifests in force name, and reads the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from keepfit.callbacks.checkpoint.codec import Array
from keepfit.callbacks.checkpoint.manifest import StoredShard
from keepfit.callbacks.checkpoint.reader import read_head, read_manifest, read_shards
from keepfit.callbacks.storage import open_store
from keepfit.callbacks.storage.base import StorageError, Store


class CheckpointPrefetcher:
    """A thread that reads, and what it has read so far.

    What goes wrong here is no error: it is met again by who needs the checkpoint, who reports it.

    Args:
        uri: of the store.
        deadline: as open_store takes it.
    """

    def __init__(self, uri: str, run: str, deadline: Callable[[], float | None]) -> None:
        self.uri, self.run = uri, run
        self._deadline = deadline
        self._over = False
        self._pool = ThreadPoolExecutor(1, "keepfit-prefetch")
        self._store = self._pool.submit(self._opened)
        self._shards = self._pool.submit(self._read)

    def store(self) -> Store | None:
        """The store, opened; None if it can't be."""
        return self._store.result()

    def take(self) -> Mapping[StoredShard, Array]:
        """All that has been read, once it is; it is kept no longer."""
        read, self._shards = self._shards, self._pool.submit(dict)
        return read.result()

    def close(self) -> None:
        """End the thread; what it has begun to ask for is not asked for again."""
        self._over = True
        self._pool.shutdown(cancel_futures=True)

    def _opened(self) -> Store | None:
        try:
            return open_store(self.uri, lambda: -math.inf if self._over else self._deadline())
        except StorageError:
            return None

    def _read(self) -> dict[StoredShard, Array]:
        store = self._store.result()
        if store is None:
            return {}
        try:
            head = read_head(store, self.run).head
            if head is None or not head.checkpoints:
                return {}
            manifest = read_manifest(store, self.run, head.checkpoints[0])
            return dict(zip(manifest.shards, read_shards(store, manifest.shards), strict=True))
        except (StorageError, MemoryError):
            return {}
