"""Read a run's newest checkpoint ahead of time, while the script still imports TensorFlow.

The import keeps one processor busy for seconds, in which the network is idle. Reading meanwhile
needs no claim: shards are written once and verified, so the attempt that claims the run later uses
the prefetched shards that the committed manifests name, and reads the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from keepfit.callbacks.checkpoint.format.codec import Array
from keepfit.callbacks.checkpoint.format.manifest import StoredShard
from keepfit.callbacks.checkpoint.read.documents import read_head, read_manifest
from keepfit.callbacks.checkpoint.read.reader import read_shards
from keepfit.callbacks.daemon_executor import DaemonExecutor
from keepfit.callbacks.storage import open_store
from keepfit.callbacks.storage.base import StorageError, Store


class CheckpointPrefetcher:
    """Reads a run's newest checkpoint on a thread of its own.

    A failure here is not reported: the attempt that needs the checkpoint meets it again and
    reports it.

    Args:
        uri: the store's address.
        deadline: see open_store.
    """

    def __init__(self, uri: str, run: str, deadline: Callable[[], float | None]) -> None:
        self.uri, self.run = uri, run
        self._deadline = deadline
        self._closed = False
        self._pool = DaemonExecutor(1, "keepfit-prefetch")
        self._store = self._pool.submit(self._open_store)
        self._shards = self._pool.submit(self._read_newest)

    def store(self) -> Store | None:
        """Return the opened store, or None if it can't be opened."""
        return self._store.result()

    def take(self) -> Mapping[StoredShard, Array]:
        """Wait for the shards that are being read, and return and release all of them."""
        shards, self._shards = self._shards, self._pool.submit(dict)
        return shards.result()

    def close(self) -> None:
        """Stop the thread; a request under way is not tried again if it fails."""
        self._closed = True
        self._pool.shutdown(cancel_futures=True)

    def _open_store(self) -> Store | None:
        try:
            return open_store(self.uri, lambda: -math.inf if self._closed else self._deadline())
        except StorageError:
            return None

    def _read_newest(self) -> dict[StoredShard, Array]:
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
