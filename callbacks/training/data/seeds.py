"""The generator of seeds of a shuffled dataset: how far it is, and setting it there.

Each new iterator of a shuffle takes a seed from its dataset's generator. TensorFlow writes the
generator's position into the state of an iterator, and reads it from there; nothing else gives
access to it. So it is read from the state of an iterator that is created for that, and changed in
such a state. The state of a shuffle's iterator that has read nothing has about 2 KB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from keepfit.callbacks.training import internals

KEY = b"epoch_num_random_samples"
"""The end of the key under which a state contains the generator's position."""

_TensorProto: Any = type(tf.make_tensor_proto(0))


class UnknownFormat(Exception):
    """This version of TensorFlow writes the states of iterators in another format."""


def numbers_drawn(dataset: Any) -> int:
    """Return how many random numbers the dataset's generator has drawn; it stays where it is.

    Of a shuffle, this takes a second for each 100,000 places in its buffer.

    Raises:
        UnknownFormat: the iterator's state can't be read.
    """
    if internals.is_shuffle(dataset):
        with _known_format():
            seeds = _ShuffleSeeds(dataset)
            seeds.set(seeds.drawn)
            return seeds.drawn
    probe = internals.probe(dataset)
    once = _seed_entry(probe).value
    another = internals.probe(dataset)
    both = _seed_entry(another).value  # to create an iterator draws the same each time
    before = once - (both - once)
    set_numbers_drawn(dataset, before)
    return before


def set_numbers_drawn(dataset: Any, number: int) -> None:
    """Set the dataset's generator to the position after `number` random numbers.

    Raises:
        UnknownFormat: the iterator's state can't be read.
    """
    if internals.is_shuffle(dataset):
        with _known_format():
            _ShuffleSeeds(dataset).set(number)
        return
    probe = internals.probe(dataset)
    internals.restore_iterator(probe, _seed_entry(probe).state_with(number))


class _ShuffleSeeds:
    """The seeds of a shuffle, in the state of an iterator that is created for that.

    The state has an entry for each place in the shuffle's buffer; only the first three are read.

    Attributes:
        drawn: how many numbers were drawn before the iterator was created, which draws two.
    """

    def __init__(self, shuffle: Any) -> None:
        with tf.device("CPU:0"):
            self._iterator = iter(shuffle)
            state = internals.iterator_state(self._iterator)
            if state is None:
                raise UnknownFormat("an iterator that was created for its seeds has no state")
            # The entries are sorted. An empty one follows for each place in the shuffle's buffer.
            self._entries = [_entry(state[i]) for i in range(min(3, int(state.shape[0])))]
        found = [entry for entry in self._entries if KEY in _keys(entry)]
        if not found:
            raise UnknownFormat(f"it has no {KEY.decode()}")
        self._seeds = found[0]
        numbers = _values(self._seeds, len(_keys(self._seeds)))
        self._numbers = dict(zip(_keys(self._seeds), numbers, strict=True))
        self.drawn = self._numbers[KEY] - 2

    def set(self, drawn: int) -> None:
        """Make the next epoch the one that follows after `drawn` numbers."""
        self._numbers[KEY] = drawn
        _set_values(self._seeds, self._numbers.values())
        (buffer,) = (e for e in self._entries if e.metadata.endswith(b":buffer@@num_elements"))
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
    size, start = _read_varint(content.tensor_content, 0)
    entry = content.variant_val.add()
    entry.ParseFromString(content.tensor_content[start : start + size])
    return entry


def _keys(entry: Any) -> list[bytes]:
    keys: list[bytes] = entry.metadata.split(b"@@")[1:]
    return keys


def _set_values(entry: Any, values: Iterable[int]) -> None:
    """Set the values of one entry, uncompressed, which TensorFlow reads as well."""
    del entry.tensors[:]
    entry.tensors.extend(tf.make_tensor_proto(value, tf.int64) for value in values)


@dataclass(frozen=True)
class Entry:
    """One part of a pipeline in the state of an iterator, with an integer that was looked for.

    Attributes:
        entries: for each part of the pipeline, its serialised values.
        number: index of this part.
        values: all values of this part.
        index: index of the value that was looked for.
    """

    entries: tuple[Any, ...]
    number: int
    values: tuple[int, ...]
    index: int

    @classmethod
    def find(cls, state: tf.Tensor, path: bytes) -> Entry:
        """Return the part whose path and key, `PATH@@KEY`, end with `path`.

        Raises:
            UnknownFormat: there is none, or it can't be read.
        """
        try:
            entries = _split(_TensorProto.FromString(tf.io.serialize_tensor(state).numpy()))
            for number, entry in enumerate(entries):
                prefix, *keys = entry.metadata.split(b"@@")
                for index, key in enumerate(keys):
                    if (prefix + b"@@" + key).endswith(path):
                        return cls(entries, number, _values(entry, len(keys)), index)
        except (tf.errors.OpError, ValueError, IndexError) as error:
            raise UnknownFormat(" ".join(str(error).split())[:200]) from error
        raise UnknownFormat(f"it has no {path.decode()}")

    @property
    def value(self) -> int:
        """The value that was looked for."""
        return self.values[self.index]

    def state_with(self, value: int) -> tf.Tensor:
        """Return the iterator's state with another value."""
        values = [*self.values[: self.index], value, *self.values[self.index + 1 :]]
        changed = type(self.entries[self.number])()
        changed.CopyFrom(self.entries[self.number])
        _set_values(changed, values)
        entries = [*self.entries[: self.number], changed, *self.entries[self.number + 1 :]]
        content = [entry.SerializeToString() for entry in entries]
        proto = _TensorProto(dtype=tf.variant.as_datatype_enum)
        proto.tensor_shape.dim.add().size = len(content)
        proto.tensor_content = b"".join([*map(_varint, map(len, content)), *content])
        return tf.io.parse_tensor(proto.SerializeToString(), tf.variant)


def _seed_entry(iterator: Any) -> Entry:
    state = internals.iterator_state(iterator)
    if state is None:
        raise UnknownFormat("an iterator that was created for its seeds has no state")
    return Entry.find(state, KEY)


def _split(proto: Any) -> tuple[Any, ...]:
    """Return the variants in a serialised vector: their sizes come first, then their content."""
    content, at, sizes = proto.tensor_content, 0, []
    for _ in range(proto.tensor_shape.dim[0].size):
        size, at = _read_varint(content, at)
        sizes.append(size)
    entries = []
    for size in sizes:
        entry = proto.variant_val.add()
        entry.ParseFromString(content[at : at + size])
        entries.append(entry)
        at += size
    return tuple(entries)


def _values(entry: Any, number: int) -> tuple[int, ...]:
    """Return the values of an entry, which TensorFlow compresses."""
    compressed = tf.io.parse_tensor(entry.tensors[0].SerializeToString(), tf.variant)
    values = tf.raw_ops.UncompressElement(
        compressed=compressed, output_types=[tf.int64] * number, output_shapes=[()] * number
    )
    return tuple(map(int, values))


def _read_varint(content: bytes, at: int) -> tuple[int, int]:
    """Return the number of variable length at an index, and the index after it."""
    number = shift = 0
    while True:
        byte = content[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])
