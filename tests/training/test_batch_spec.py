"""Batch specs: converted to JSON and back."""

from __future__ import annotations

import json
from collections import namedtuple

import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keepfit.callbacks.training.data import batch_spec

TYPES = st.sampled_from([tf.float32, tf.bfloat16, tf.int64, tf.uint8, tf.bool, tf.string])
SHAPES = st.none() | st.lists(st.none() | st.integers(0, 9), max_size=4)


@st.composite
def ragged(draw):
    sizes = draw(st.lists(st.none() | st.integers(1, 9), min_size=2, max_size=4))
    rank = draw(st.integers(1, len(sizes) - 1))
    splits = draw(st.sampled_from([tf.int32, tf.int64]))
    return tf.RaggedTensorSpec([None, None, *sizes[2:]], draw(TYPES), min(rank, 1), splits)


LEAVES = (
    st.builds(tf.TensorSpec, SHAPES, TYPES)
    | ragged()
    | st.builds(tf.SparseTensorSpec, st.lists(st.none() | st.integers(1, 9), max_size=3), TYPES)
    | st.just(tf.OptionalSpec(None))
)
NESTS = st.recursive(
    LEAVES,
    lambda children: (
        st.lists(children, max_size=3)
        | st.lists(children, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=5), children, max_size=3)
    ),
    max_leaves=6,
)


@given(NESTS)
def test_round_trip(spec):
    """A spec restored from a checkpoint's JSON is the same nest of the same specs."""
    plain = batch_spec.spec_to_json(spec)
    again = batch_spec.spec_from_json(json.loads(json.dumps(plain)))
    assert again == spec
    assert batch_spec.spec_to_json(again) == plain


def test_none_is_an_absent_value():
    """None becomes an OptionalSpec, as Keras makes an Optional of each None in a batch."""
    x = tf.TensorSpec([None, 2])
    assert batch_spec.spec_from_json(batch_spec.spec_to_json((x, None))) == (
        x,
        tf.OptionalSpec(None),
    )


def test_names_are_dropped():
    """A tensor's name is not part of its structure."""
    again = batch_spec.spec_from_json(
        batch_spec.spec_to_json(tf.TensorSpec([2], tf.int32, name="x"))
    )
    assert again == tf.TensorSpec([2], tf.int32)


def test_dict_order():
    """A dict is restored with its keys in order."""
    spec = {"b": tf.TensorSpec([1]), "a": tf.TensorSpec([2])}
    assert list(batch_spec.spec_from_json(batch_spec.spec_to_json(spec))) == ["b", "a"]


def test_named_tuple():
    """A named tuple is restored as a tuple, which Keras unpacks the same way."""
    Pair = namedtuple("Pair", ["x", "y"])
    spec = Pair(tf.TensorSpec([1]), tf.TensorSpec([2]))
    assert tuple(batch_spec.spec_from_json(batch_spec.spec_to_json(spec))) == tuple(spec)


@pytest.mark.parametrize(
    "unknown", [tf.TensorArraySpec(), tf.data.DatasetSpec(tf.TensorSpec([])), 3, "text"]
)
def test_unknown(unknown):
    """An unsupported spec is refused by the name of its type, at any depth."""
    for spec in (unknown, (tf.TensorSpec([1]), {"a": unknown})):
        with pytest.raises(TypeError, match=type(unknown).__name__):
            batch_spec.spec_to_json(spec)


def test_of_real_datasets():
    """The element spec of a real dataset with dense and ragged features survives the round trip."""
    values = {"a": tf.ones((4, 2)), "b": tf.ragged.constant([[1], [2, 3], [], [4]])}
    data = tf.data.Dataset.from_tensor_slices((values, [0, 1, 0, 1])).batch(2)
    assert batch_spec.spec_from_json(
        json.loads(json.dumps(batch_spec.spec_to_json(data.element_spec)))
    ) == (data.element_spec)
