"""Pack tensors into safetensors objects without copying their bytes.

The format is eight bytes of header length, a JSON header and the tensors' bytes
(github.com/huggingface/safetensors#format). Any safetensors reader opens these files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from keepfit.callbacks.checkpoint.snapshot import Tensor
from keepfit.callbacks.storage.base import Body, Buffer

TARGET_SIZE = 64 << 20
"""Bytes after which a group's next tensor goes to a new shard: few objects, yet several at once."""

MIN_SHARED_SIZE = 1 << 20
"""Bytes from which an unchanged shard is not sent again. Checkpoints that share a shard are damaged
together, so a small one is written for each: it contains the checkpoint's name."""


@dataclass(frozen=True)
class Shard:
    """A safetensors object ready to be written.

    Attributes:
        tensors: the tensors in order, each with its offset and size in bytes within the object.
        body: the object's bytes, as buffers in order.
        digest: SHA-256 of the whole object, in hex.
        size: size of the whole object in bytes.
    """

    tensors: Sequence[tuple[Tensor, int, int]]
    body: Body
    digest: str
    size: int


def pack_shards(
    tensors: Iterable[Tensor], checkpoint: str, target: int = TARGET_SIZE
) -> Iterator[Shard]:
    """Yield shards of about `target` bytes; only tensors of one group share a shard.

    Equal tensors in the same order yield equal shards in every process and every checkpoint, unless
    they have less than MIN_SHARED_SIZE bytes.

    Args:
        checkpoint: a name that is unique among the checkpoints of the run.
        target: size in bytes.
    """
    for _, group in groupby(sorted(tensors, key=lambda t: t.group), key=lambda t: t.group):
        batch: list[tuple[Tensor, memoryview]] = []
        filled = 0
        for tensor in group:
            data = tensor.host()
            if batch and filled + data.nbytes > target:
                yield _shard(batch, checkpoint)
                batch, filled = [], 0
            batch.append((tensor, data))
            filled += data.nbytes
        yield _shard(batch, checkpoint)


def _shard(batch: Sequence[tuple[Tensor, memoryview]], checkpoint: str) -> Shard:
    table: dict[str, object] = {}
    if sum(data.nbytes for _, data in batch) < MIN_SHARED_SIZE:
        table["__metadata__"] = {"checkpoint": checkpoint}
    offset = 0
    for tensor, data in batch:
        end = offset + data.nbytes
        table[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": stored_shape(tensor, data.nbytes),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    body: list[Buffer] = [header, *(data for _, data in batch)]
    placed, start = [], len(header)
    for tensor, data in batch:
        placed.append((tensor, start, data.nbytes))
        start += data.nbytes
    return Shard(placed, body, digest(body), start)


def stored_shape(tensor: Tensor, size: int) -> tuple[int, ...]:
    """Return the tensor's shape, given the number of its bytes."""
    return (size,) if tensor.shape is None else tensor.shape


def digest(body: Body) -> str:
    """Return the SHA-256 of the concatenation of the buffers, in hex."""
    sha = hashlib.sha256()
    for buffer in body:
        sha.update(buffer)
    return sha.hexdigest()
