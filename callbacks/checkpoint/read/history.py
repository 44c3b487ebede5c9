"""The history of a training, read from a checkpoint without its other arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keepfit.callbacks.checkpoint.format.codec import Array, UnreadableState, decode_once
from keepfit.callbacks.checkpoint.format.limits import MAX_ITEMS
from keepfit.callbacks.checkpoint.format.manifest import Manifest
from keepfit.callbacks.checkpoint.format.state_schema import InvalidState, check_fields
from keepfit.callbacks.checkpoint.read.reader import array_of, read_shards
from keepfit.callbacks.storage.base import Damaged, Store

HISTORY = "state/history"
"""Names of the arrays of long histories begin with it."""

MAX_SHARD_BYTES = 256 << 20
"""Size of the shards with the history's arrays above which they are not read."""


@dataclass(frozen=True)
class History:
    """The history that `fit` would return.

    Attributes:
        epoch: numbers of the finished epochs, from 0.
        history: the values of each metric by its name, one an epoch.
    """

    epoch: list[int]
    history: dict[str, list[Any]]


def read_history(store: Store, manifest: Manifest) -> History:
    """Read the history in a checkpoint; a metric that is an array is its type and shape.

    Raises:
        NotFound, Damaged: it can't be read.
        StorageError: the store itself failed.
    """
    try:
        arrays = _arrays(store, manifest)
        saved = decode_once({"history": manifest.state.get("history")}, arrays)["history"]
        found = check_fields(saved, {"history": dict[str, list[Any]], "epoch": list[int]})
    except (UnreadableState, InvalidState) as error:
        raise Damaged(f"the history of {manifest.run!r} can't be read: {error}") from error
    return History(**found)


def _arrays(store: Store, manifest: Manifest) -> Mapping[str, Array]:
    """Return the arrays of the history's long lists, and what is shown of the others."""
    lists = {tensor for tensor in manifest.tensors if _is_list(tensor.name, tensor.shape)}
    needed = sorted({tensor.shard for tensor in lists})
    if sum(manifest.shards[i].size for i in needed) > MAX_SHARD_BYTES:
        needed, lists = [], set()
    read = dict(zip(needed, read_shards(store, [manifest.shards[i] for i in needed]), strict=True))
    shown = {t.name: np.array(f"{t.dtype}{list(t.shape)}") for t in manifest.tensors}
    return {**shown, **{t.name: array_of(t, read) for t in lists}}


def _is_list(name: str, shape: tuple[int, ...]) -> bool:
    return name.startswith(HISTORY) and len(shape) == 1 and shape[0] <= MAX_ITEMS
