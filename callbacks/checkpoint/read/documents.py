"""Read HEAD and manifests: what the checkpoints of a run are, without their arrays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from keepfit.callbacks.checkpoint.format.consistency import check_manifest
from keepfit.callbacks.checkpoint.format.document import UnknownDocument
from keepfit.callbacks.checkpoint.format.head import Head
from keepfit.callbacks.checkpoint.format.keys import ForeignKey, Kind, check_key, head_key
from keepfit.callbacks.checkpoint.format.manifest import Manifest
from keepfit.callbacks.checkpoint.read.parallel import parallel_map
from keepfit.callbacks.storage.base import Damaged, NotFound, Store, Version

PARALLEL_MANIFESTS = 8
"""Number of manifests read at once: they are small, and the time is that of the requests."""

FEW_MANIFESTS = 4
"""Number of manifests in a directory up to which no threads are started."""


class NoUsableCheckpoint(Exception):
    """The run has checkpoints, but none of them can be used."""


@dataclass(frozen=True)
class LoadedHead:
    """The result of reading HEAD.

    Attributes:
        head: None if HEAD is missing or damaged.
        version: None if HEAD is missing.
        other: for an intact HEAD that can't be this run's present one, what it is.
    """

    head: Head | None
    version: Version | None
    other: str | None = None


@dataclass(frozen=True)
class LoadedManifests:
    """The result of reading several manifests.

    Attributes:
        manifests: the manifests by key, in the order in which they were asked for.
        problems: why a manifest can't be used, by key.
    """

    manifests: dict[str, Manifest]
    problems: dict[str, str]


def read_manifest(store: Store, run: str, key: str) -> Manifest:
    """Read the manifest at `key`.

    Raises:
        NotFound: the manifest is missing.
        Damaged: the object is not a manifest, or not one of this run.
    """
    try:
        check_key(run, key, Kind.MANIFEST)
    except ForeignKey as error:
        raise Damaged(f"{store.uri}: {error}") from error
    content, _ = store.load(key)
    try:
        manifest = Manifest.from_bytes(content)
        check_manifest(run, manifest)
    except ValueError as error:
        raise Damaged(f"{store.uri}/{key} is not a valid manifest: {error}") from error
    return manifest


def read_head(store: Store, run: str) -> LoadedHead:
    """Read HEAD. A missing or damaged HEAD raises no error.

    Raises:
        Damaged: HEAD is a pipe, a folder or a link, or is larger than any document.
        StorageError: the store can't be read.
    """
    try:
        content, version = store.load(head_key(run))
    except NotFound:
        return LoadedHead(None, None)
    except Damaged as error:
        raise Damaged(f"{error}; without it, HEAD is rebuilt from the run's checkpoints") from error
    try:
        head = Head.from_bytes(content)
    except UnknownDocument as error:
        return LoadedHead(None, version, f"was written by another version of keepfit: {error}")
    except ValueError:
        return LoadedHead(None, version)
    if head.run != run:
        return LoadedHead(None, version, f"is that of run {head.run!r}")
    return LoadedHead(head, version)


def read_manifests(store: Store, run: str, keys: Iterable[str]) -> LoadedManifests:
    """Read the manifests at `keys`, several at once; an unusable one raises no error.

    Raises:
        StorageError: the store itself failed, which tells nothing about the manifests.
    """

    def read(key: str) -> Manifest | str:
        try:
            return read_manifest(store, run, key)
        except (NotFound, Damaged) as error:
            return str(error)

    keys = list(keys)
    # A directory may lie on a network: only a few manifests are read faster without threads.
    few = store.parallel == 1 and len(keys) <= FEW_MANIFESTS
    found = list(zip(keys, parallel_map(read, keys, 1 if few else PARALLEL_MANIFESTS), strict=True))
    return LoadedManifests(
        manifests={key: result for key, result in found if isinstance(result, Manifest)},
        problems={key: result for key, result in found if isinstance(result, str)},
    )
