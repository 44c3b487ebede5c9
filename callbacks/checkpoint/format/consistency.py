"""Consistency checks of a manifest: its run, keys, shard layout and file parts. Pure, no I/O."""

from __future__ import annotations

from collections import defaultdict
from math import prod

from keepfit.callbacks.checkpoint.format.dtypes import ITEM_BYTES
from keepfit.callbacks.checkpoint.format.keys import Kind, check_key
from keepfit.callbacks.checkpoint.format.manifest import Manifest, StoredFile, StoredTensor
from keepfit.callbacks.checkpoint.format.position import Position

MAX_HEADER_BYTES = 100_000_000
"""Largest header of a safetensors object, as its reference reader limits it."""


class Inconsistent(ValueError):
    """Parts of a document contradict one another; the message names them."""


def check_manifest(run: str, manifest: Manifest) -> None:
    """Check a valid manifest: its run, its keys, the layout of its shards and files.

    Args:
        run: name of the run that names the manifest.

    Raises:
        ForeignKey: it names an object of another run or kind.
        Inconsistent: its parts contradict one another.
    """
    if manifest.run != run:
        raise Inconsistent(f"it belongs to run {manifest.run!r}, not {run!r}")
    for shard in manifest.shards:
        check_key(run, shard.key, Kind.SHARD)
    for file in manifest.files:
        _check_file(run, file)
    _check_position(manifest.position)
    _check_tensors(manifest)


def _check_position(position: Position) -> None:
    """Check that no field is missing, whose default would be another position, and the sums."""
    if missing := sorted(Position.model_fields.keys() - position.model_fields_set):
        raise Inconsistent(f"its position lacks {', '.join(missing)}")
    if position.batch > position.step:
        raise Inconsistent(f"batch {position.batch} is after step {position.step}")


def _check_file(run: str, file: StoredFile) -> None:
    """Check that the parts follow one another, so none is named twice."""
    at = 0
    for part in file.parts:
        if check_key(run, part.key, Kind.PART).start != at:
            raise Inconsistent(f"the parts of {file.path!r} don't follow one another")
        at += part.size


def _check_tensors(manifest: Manifest) -> None:
    """Check that each tensor has the bytes of its shape, within its shard."""
    used: defaultdict[int, int] = defaultdict(int)
    names = set()
    for tensor in manifest.tensors:
        if tensor.name in names:
            raise Inconsistent(f"it has two tensors {tensor.name!r}")
        names.add(tensor.name)
        if not _fits_shard(manifest, tensor):
            raise Inconsistent(f"the entry of {tensor.name!r} contradicts its shard")
        used[tensor.shard] += tensor.size
    for index, shard in enumerate(manifest.shards):
        if manifest.has_variables and shard.size > used[index] + MAX_HEADER_BYTES:
            raise Inconsistent(f"{shard.key} has {shard.size} bytes, its tensors {used[index]}")


def _fits_shard(manifest: Manifest, tensor: StoredTensor) -> bool:
    size = ITEM_BYTES.get(tensor.dtype)
    return (
        size is not None
        and tensor.shard < len(manifest.shards)
        and tensor.offset + tensor.size <= manifest.shards[tensor.shard].size
        and tensor.size == prod(tensor.shape) * size
    )
