"""The generator of seeds of a shuffled dataset: how far it is, and setting it there.

Each new iterator of a shuffle takes a seed from its dataset's generator. TensorFlow writes the
generator's position into the state of an iterator, and reads it from there; nothing else gives
access to it. So it is read from the state of an iterator that is created for that, and changed in
such a state.

A state is a vector of entries, one for each part of the pipeline, with the keys and the values of
that part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from keepfit.callbacks.training import internals

KEY = b"epoch_num_random_samples"
"""The end of the key under which a state contains the generator's position."""

_BUFFER = b":buffer@@num_elements"
"""The end of the keys of a shuffle's buffer."""

_TensorProto: Any = type(tf.make_tensor_proto(0))


class UnknownFormat(Exception):
    """This version of TensorFlow writes the states of iterators in another format."""


def numbers_drawn(dataset: Any) -> int:
    """Return how many random numbers the dataset's generator has drawn; it stays where it is.

    Of a shuffle, this takes a second for each 100,000 places in its buffer.

    Raises:
        UnknownFormat: the iterator's state can't be read.
    """
    with _known_format():
        seeds = _Seeds(dataset)
        drawn = seeds.number - _drawn_by_iterator(dataset, seeds.number)
        seeds.set(drawn)
    return drawn


def set_numbers_drawn(dataset: Any, number: int) -> None:
    """Set the dataset's generator to the position after `number` random numbers.

    Raises:
        UnknownFormat: the iterator's state can't be read.
    """
    with _known_format():
        _Seeds(dataset).set(number)


def value_in(state: tf.Tensor, path: bytes) -> int:
    """Return the value in a state whose path and key, `PATH@@KEY`, end with `path`.

    Raises:
        UnknownFormat: there is none, or it can't be read.
    """
    with _known_format():
        entry, index = _find((_entry(state[i]) for i in range(len(state))), path)
        return _values(entry)[index]


def _drawn_by_iterator(dataset: Any, number: int) -> int:
    """Return how many numbers a new iterator draws; the last one has left it at `number`."""
    return 2 if internals.is_shuffle(dataset) else _Seeds(dataset).number - number


class _Seeds:
    """The seeds of a dataset, in the state of an iterator that is created for that.

    Attributes:
        number: how many numbers were drawn, by this iterator too.
    """

    def __init__(self, dataset: Any) -> None:
        with tf.device("CPU:0"):
            self._iterator = internals.probe(dataset)
            state = internals.iterator_state(self._iterator)
            if state is None:
                raise UnknownFormat("an iterator that was created for its seeds has no state")
            # The entries are sorted. An empty one follows for each place in a shuffle's buffer.
            is_shuffle = internals.is_shuffle(dataset)
            read = min(3, len(state)) if is_shuffle else len(state)
            self._entries = [_entry(state[i]) for i in range(read)]
        self._seeds, self._index = _find(self._entries, KEY)
        self._numbers = [*_values(self._seeds)]
        self._buffers = [e for e in self._entries if e.metadata.endswith(_BUFFER)]
        if len(self._buffers) != is_shuffle:
            raise UnknownFormat(f"it has {len(self._buffers)} of {_BUFFER.decode()}")
        self.number = self._numbers[self._index]

    def set(self, drawn: int) -> None:
        """Make the next iterator the one that follows after `drawn` numbers."""
        self._numbers[self._index] = drawn
        _set_values(self._seeds, self._numbers)
        for buffer in self._buffers:
            _set_values(buffer, [0])
        state = _TensorProto(
            dtype=tf.variant.as_datatype_enum,
            tensor_shape=tf.TensorShape([len(self._entries)]).as_proto(),
            variant_val=self._entries,
        )
        with tf.device("CPU:0"):
            parsed = tf.io.parse_tensor(state.SerializeToString(), tf.variant)
            internals.restore_iterator(self._iterator, parsed)


@contextmanager
def _known_format() -> Iterator[None]:
    """Raise UnknownFormat if the state of an iterator is not as this module expects it."""
    try:
        yield
    except (tf.errors.OpError, ValueError, LookupError) as error:
        raise UnknownFormat(" ".join(f"{type(error).__name__}: {error}".split())[:200]) from error


def _entry(variant: tf.Tensor) -> Any:
    """Return one entry of an iterator's state as a message: the keys of one part, and values."""
    content = _TensorProto.FromString(tf.io.serialize_tensor(variant).numpy())
    encoded = content.tensor_content  # its length as a varint, and the message
    start = next(i for i, byte in enumerate(encoded) if byte < 0x80) + 1
    entry = content.variant_val.add()
    entry.ParseFromString(encoded[start:])
    return entry


def _find(entries: Iterable[Any], path: bytes) -> tuple[Any, int]:
    """Return the entry with a value whose path and key, `PATH@@KEY`, end so, and its index in it.

    Raises:
        UnknownFormat: there is none.
    """
    for entry in entries:
        prefix, *keys = entry.metadata.split(b"@@")
        for index, key in enumerate(keys):
            if (prefix + b"@@" + key).endswith(path):
                return entry, index
    raise UnknownFormat(f"it has no {path.decode()}")


def _values(entry: Any) -> tuple[int, ...]:
    """Return the values of an entry, which TensorFlow compresses."""
    number = entry.metadata.count(b"@@")
    compressed = tf.io.parse_tensor(entry.tensors[0].SerializeToString(), tf.variant)
    values = tf.raw_ops.UncompressElement(
        compressed=compressed, output_types=[tf.int64] * number, output_shapes=[()] * number
    )
    return tuple(map(int, values))


def _set_values(entry: Any, values: Iterable[int]) -> None:
    """Set the values of one entry, uncompressed, which TensorFlow reads as well."""
    del entry.tensors[:]
    entry.tensors.extend(tf.make_tensor_proto(value, tf.int64) for value in values)
