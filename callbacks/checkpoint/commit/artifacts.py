"""Append-only files as whole objects for users. No checkpoint depends on them."""

from __future__ import annotations

import threading

from keepfit.callbacks.checkpoint.format.key_names import keys_from_paths
from keepfit.callbacks.checkpoint.format.keys import artifact_key
from keepfit.callbacks.checkpoint.format.manifest import Manifest, StoredFile
from keepfit.callbacks.checkpoint.read.file_restore import read_span
from keepfit.callbacks.storage.base import Store, Version
from keepfit.callbacks.storage.overwriting import overwrite

SMALL_ARTIFACT = 1 << 20
"""Size in bytes up to which a file's copy for users is uploaded again at each checkpoint."""


class ArtifactPublisher:
    """Uploads the append-only files of the newest checkpoint.

    A small file is uploaded at each checkpoint, a larger one when it has doubled in size and when
    the fit has finished. One thread may call `request`, and another one `publish`.
    """

    def __init__(self, store: Store, run: str) -> None:
        self._store = store
        self._run = run
        self._lock = threading.Lock()
        self._requested: list[Manifest] = []
        self._published_sizes: dict[str, int] = {}
        self._versions: dict[str, Version] = {}

    def request(self, manifest: Manifest) -> None:
        """Let the next `publish` upload these files, in place of those of an older checkpoint.

        The files of a fit that has finished are uploaded in any case.
        """
        with self._lock:
            finished = [older for older in self._requested if older.position.finished]
            self._requested = [*finished, manifest]

    def publish(self) -> None:
        """Upload what was requested.

        Raises:
            OSError: a file can't be read.
            StorageError: an artifact could not be uploaded.
        """
        with self._lock:
            requested, self._requested = self._requested, []
        for manifest in requested:
            names = keys_from_paths(file.path for file in manifest.files)
            for file in (file for file in manifest.files if not file.whole):
                grown = file.size >= 2 * self._published_sizes.get(file.path, 0)
                if file.size <= SMALL_ARTIFACT or grown or manifest.position.finished:
                    self._publish(file, artifact_key(self._run, names[file.path]))
                    self._published_sizes[file.path] = file.size

    def _publish(self, file: StoredFile, key: str) -> None:
        content = read_span(file.path, 0, file.size)
        self._versions[key] = overwrite(self._store, key, content, self._versions.get(key))
