"""SHA-256 over nests of arrays and plain values, without a copy of the whole.

Equal in two processes for equal values; another number, shape, type, key or order gives another
digest. hashlib releases the interpreter's lock for each block, so training goes on meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import tensorflow as tf

from keepfit.callbacks.checkpoint.format.codec import Array
from keepfit.callbacks.checkpoint.snapshot import array_bytes

BLOCK = 8 << 20
"""Bytes that are digested, and copied if the array is not contiguous, at once."""

_ITEMS = 4096
"""Items of a list whose text is made at once; in between, other threads may run."""

_DEPTH = 50
"""Levels of a nest, beyond which it may contain itself."""

_TEXTS = frozenset({type(None), bool, int, float, str, bytes})
_PLAIN = (type(None), bool, int, float, complex, str, bytes, np.generic, PurePath, tf.DType)


class ContentHash:
    """A digest under way.

    Attributes:
        unknown: the names of the parts whose content can't be read, which the digest leaves out.
    """

    def __init__(self) -> None:
        self._sha = hashlib.sha256()
        self._depth = 0
        self.unknown: list[str] = []

    def hexdigest(self) -> str:
        """Return the digest of everything that was added."""
        return self._sha.hexdigest()

    def add_text(self, text: str) -> None:
        """Add a text with its length, so that no two sequences of texts are the same bytes."""
        content = text.encode("utf-8", "surrogatepass")
        self._sha.update(len(content).to_bytes(8, "little"))
        self._sha.update(content)

    def add(self, name: str, value: Any, *, ordered: bool = True) -> None:
        """Add a nest of lists, tuples, mappings, arrays, tensors, data frames and plain values.

        Args:
            name: what to call the value in `unknown`.
            ordered: False if training may have changed the order of the items of a list, and of
                the rows of an array.
        """
        if isinstance(value, _PLAIN):
            self.add_text(_text(value))
        elif self._depth == _DEPTH:
            self._add_unknown(name, value)
        else:
            self._depth += 1
            self._add_nest(name, value, ordered=ordered)
            self._depth -= 1

    def _add_nest(self, name: str, value: Any, *, ordered: bool) -> None:
        match value:
            case Mapping():
                self.add_text(f"mapping {len(value)}")
                for key in sorted(value, key=repr):
                    self.add_text(_text(key))
                    self.add(f"{name}[{key!r}]", value[key])
            case set() | frozenset():
                self._add_items(name, list(value), ordered=False)
            case list() | tuple():
                self._add_items(name, value, ordered=ordered)
            case _ if parts := _parts(value):
                for part, each in parts:
                    self.add_text(part)
                    self.add(f"{name}.{part}", each, ordered=ordered)
            case _ if (array := _as_array(value)) is not None:
                self._add_array(name, array, ordered=ordered)
            case _:
                self._add_unknown(name, value)

    def _add_unknown(self, name: str, value: Any) -> None:
        self.add_text("unknown")
        self.unknown.append(f"{name} ({type(value).__name__})")

    def _add_items(self, name: str, items: Sequence[Any] | Array, *, ordered: bool) -> None:
        self.add_text(f"{type(items).__name__} {len(items)}")
        if not ordered:
            self._add_unordered(self._digest_of(name, item) for item in list(items))
            return
        for i in range(0, len(items), _ITEMS):
            block = list(items[i : i + _ITEMS])
            if set(map(type, block)) <= _TEXTS:
                self.add_text(repr(block))
                continue
            for k, item in enumerate(block, i):
                self.add(f"{name}[{k}]", item)

    def _add_array(self, name: str, array: Array, *, ordered: bool) -> None:
        self.add_text(f"array {array.dtype} {array.shape}")
        if array.dtype.names and array.dtype.hasobject:
            self._add_unknown(name, array)
        elif array.dtype.hasobject:
            self._add_items(name, array.reshape(-1), ordered=ordered)
        elif ordered or array.ndim == 0:
            for block in _blocks(array):
                self._sha.update(block)
        else:
            self._add_unordered(hashlib.sha256(array_bytes(row)).digest() for row in array)

    def _digest_of(self, name: str, item: Any) -> bytes:
        own = ContentHash()
        own.add(name, item)
        self.unknown.extend(own.unknown)
        return bytes.fromhex(own.hexdigest())

    def _add_unordered(self, digests: Iterator[bytes]) -> None:
        """Add the sum of digests, which does not depend on their order."""
        total = sum(int.from_bytes(digest, "little") for digest in digests)
        self._sha.update((total % (1 << 256)).to_bytes(32, "little"))


def _text(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"


def _parts(value: Any) -> list[tuple[str, Any]]:
    """Return the arrays of which a tensor or table consists; none if it is one array itself."""
    match value:
        case tf.RaggedTensor():
            splits = [(f"splits {i}", each) for i, each in enumerate(value.nested_row_splits)]
            return [("values", value.flat_values), *splits]
        case tf.SparseTensor():
            return [(name, getattr(value, name)) for name in ("indices", "values", "dense_shape")]
    if hasattr(value, "iloc") and hasattr(value, "columns"):  # a pandas.DataFrame
        columns = enumerate(value.columns)
        return [(f"column {_text(column)}", value.iloc[:, i]) for i, column in columns]
    if hasattr(value, "tocoo"):  # a sparse matrix of SciPy
        coo = value.tocoo()
        return [("shape", coo.shape), ("row", coo.row), ("col", coo.col), ("data", coo.data)]
    return []


def _as_array(value: Any) -> Array | None:
    """Return the value as a NumPy array, copied only if it lies on a device or has no buffer."""
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, tf.Tensor | tf.Variable):
        lent = isinstance(value, tf.Tensor) and value.dtype in _LENT and _is_on_host(value)
        return np.asarray(memoryview(value) if lent else value.numpy())
    if hasattr(value, "iloc"):
        return np.asarray(value.to_numpy())
    if hasattr(value, "__array__"):
        return np.asarray(value)
    return None


_LENT = frozenset(
    {tf.float32, tf.float64, tf.int64, tf.int32, tf.int16, tf.int8, tf.uint8, tf.bool}
)
"""Types of tensors that have a buffer for Python; `numpy()` copies all tensors."""


def _is_on_host(tensor: tf.Tensor) -> bool:
    return bool(tensor.device.endswith("CPU:0"))


def _blocks(array: Array) -> Iterator[memoryview]:
    """Yield the bytes of an array in the order of its elements, at most BLOCK of them copied."""
    if array.flags.c_contiguous:
        content = array_bytes(array)
        yield from (content[i : i + BLOCK] for i in range(0, content.nbytes, BLOCK))
    elif array.nbytes <= BLOCK:
        yield array_bytes(array)
    else:
        rows = max(1, BLOCK * len(array) // array.nbytes)
        for i in range(0, len(array), rows):
            yield from _blocks(array[i : i + rows] if rows > 1 else array[i])
