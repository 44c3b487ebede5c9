"""The state of a training, captured in memory at one batch boundary."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np

from keepfit.callbacks.checkpoint.format.dtypes import NUMPY_DTYPES
from keepfit.callbacks.checkpoint.format.limits import Json
from keepfit.callbacks.checkpoint.format.position import Position

Group = Literal["model", "frozen", "optimizer", "metrics", "state", "data"]
"""Tensors of one group share shards: groups change at different rates; only new shards are sent."""


@dataclass(frozen=True)
class Tensor:
    """A named array whose memory is shared, not copied.

    Attributes:
        dtype: as safetensors names it: "F32", "BF16", "I64", …
        shape: None for bytes whose number is known only when `host` is called.
        host: returns the bytes, C-contiguous, in host memory; called on the writer's thread.
    """

    name: str
    group: Group
    dtype: str
    shape: tuple[int, ...] | None
    host: Callable[[], memoryview]


@dataclass(frozen=True)
class FileStamp:
    """Identifies the content of a file by the file system's records.

    Attributes:
        size: size in bytes.
        changed: time of the last modification, in nanoseconds.
        temporary: the file is removed when it is no longer needed.
    """

    inode: int
    size: int
    changed: int
    temporary: bool = field(default=False, compare=False)


def stamp_of(path: str) -> FileStamp | None:
    """Return the stamp of the file's present content; None if the file does not exist."""
    try:
        stat = Path(path).stat()
    except FileNotFoundError:
        return None
    return FileStamp(stat.st_ino, stat.st_size, stat.st_mtime_ns)


EncodedState = tuple[Mapping[str, Json], Sequence[Tensor]]
"""Encoded values by name, and the arrays among them."""


def stamp_of_open(descriptor: int) -> FileStamp:
    """Return the stamp of the present content of an open file, under whatever name."""
    stat = os.fstat(descriptor)
    return FileStamp(stat.st_ino, stat.st_size, stat.st_mtime_ns)


@dataclass(frozen=True)
class Snapshot:
    """All state that resume needs. Immutable, so that training continues while it is written.

    Attributes:
        state: plain values; arrays among them are stored in `tensors` (see codec.py).
        append_only_files: append-only files by path, each with its size in bytes at this moment.
        replaced_files: files that are replaced as a whole, by path, with their present stamps.
        deferred: encodes the part of the state that is expensive to encode; called once, on the
            writer's thread.
        continuation: beside the final state of a fit, the snapshot from which it can train more
            epochs.
    """

    position: Position
    tensors: Sequence[Tensor]
    state: Mapping[str, Json]
    append_only_files: Mapping[str, int] = field(default_factory=dict)
    replaced_files: Mapping[str, FileStamp] = field(default_factory=dict)
    deferred: Callable[[], EncodedState] | None = None
    continuation: Snapshot | None = None

    def encoded(self) -> Snapshot:
        """Return the snapshot with the deferred part of the state encoded.

        That of its continuation stays deferred: it is stored after this one, or not at all.
        """
        if self.deferred is None:
            return self
        state, tensors = self.deferred()
        return replace(
            self, tensors=[*self.tensors, *tensors], state={**state, **self.state}, deferred=None
        )

    def without_changed_files(self) -> Snapshot:
        """Return the snapshot without the replaced files that have changed since then."""
        present = {p: s for p, s in self.replaced_files.items() if stamp_of(p) == s}
        return replace(self, replaced_files=present)


DTYPES: Mapping[str, np.dtype[Any]] = {
    stored: np.dtype(getattr(ml_dtypes, name, name)) for name, stored in NUMPY_DTYPES.items()
}
"""NumPy's dtypes by the names of the safetensors format."""


def array_bytes(array: np.ndarray[Any, Any]) -> memoryview:
    """Return the array's memory as bytes; copied only if not contiguous or not little-endian."""
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8).data if flat.size else memoryview(b"")
