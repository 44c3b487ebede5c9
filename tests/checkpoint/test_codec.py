"""Encoding of Python values as JSON and arrays, and decoding to equal values."""

import json
import math
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from contextlib import suppress
from datetime import timedelta, timezone
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from zoneinfo import ZoneInfo

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keepfit.callbacks.checkpoint.format.codec import (
    LONG_LIST,
    MAX_NAME_BYTES,
    Encoded,
    PackedFloats,
    UnsupportedValue,
    decode,
    encode,
)
from keepfit.callbacks.checkpoint.format.dtypes import NUMPY_DTYPES
from keepfit.callbacks.checkpoint.format.manifest import Manifest
from keepfit.callbacks.checkpoint.format.position import Position
from keepfit.callbacks.checkpoint.snapshot import Snapshot
from tests.checkpoint.samples import RUN, parsed, resume, same, take_over, tensor
from tests.checkpoint.test_manifest import manifest_with


def round_trip(value):
    """Encode and decode a value, through JSON text as in a manifest and the arrays' bytes."""
    arrays = {}
    tree = encode(value, "state", arrays)
    read = parsed(Manifest, manifest_with(state={"x": tree}).to_bytes())
    stored = {
        name: np.frombuffer(bytes(tensor(name, a).host()), a.dtype.newbyteorder("=")).reshape(
            a.shape
        )
        for name, a in arrays.items()
    }
    return decode(read.state["x"], stored.__getitem__)


def assert_round_trip(value):
    """Assert that the value is the same after encoding and decoding."""
    found = round_trip(value)
    assert same(found, value), found


Point = namedtuple("Point", ["x", "y"])
DTYPES = st.sampled_from([n for n in NUMPY_DTYPES if not n.startswith(("bfloat", "float8"))])
ARRAYS = DTYPES.flatmap(
    lambda name: hnp.arrays(name, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)
SCALARS = DTYPES.flatmap(lambda name: hnp.arrays(name, ())).map(lambda array: array[()])
KEYS = st.text("a/0$k", max_size=3) | st.sampled_from(["key", "0", "0/key", "$array", "$dict", ""])
ZONES = st.none() | st.builds(
    timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)), st.just("CET")
)
PLAIN = (
    st.dates()
    | st.datetimes(timezones=ZONES)
    | st.times(timezones=ZONES)
    | st.timedeltas()
    | st.complex_numbers(allow_nan=False)
    | st.sampled_from([Path("a/b"), PurePosixPath("/a"), PureWindowsPath("c:\\a"), Path()])
)
HASHABLE = st.recursive(
    st.none()
    | PLAIN
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=2),
    max_leaves=4,
)
VALUES = st.recursive(
    HASHABLE | st.floats() | ARRAYS | SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.sets(HASHABLE, max_size=3)
        | st.builds(deque, st.lists(inner, max_size=3), st.none() | st.integers(3, 9))
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.dictionaries(KEYS | HASHABLE, inner, max_size=3)
    ),
    max_leaves=12,
)


@given(VALUES)
@example({"a": {"b": np.arange(2)}, "a/b": np.arange(3)})
@example({"a": {"b": np.arange(2), "b~2": np.arange(4)}, "a/b": np.arange(3)})
@example({b"": {"key": np.arange(2)}})
@example({frozenset({1})})
@example({frozenset({1}): 2})
@example([2**70, -(2**200), 10**400])
@example({2: "int", "2": "str", True: "bool", None: 0, (1, "a"): {}})
def test_round_trip(value):
    """Every value of each supported type is decoded to an equal value of the same type."""
    assert_round_trip(value)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        -float("inf"),
        -0.0,
        5e-324,
        1.7976931348623157e308,
        0.1,
        b"",
        bytes(range(256)),
        (),
        [],
        {},
        set(),
        ((),),
        {(): ()},
        {"$array": "x"},
        {"$dict": []},
        {"$x": 1, "y": 2},
        {"": None},
        {3: "int", "3": "str"},
        {2.5: 1, float("inf"): 2},
        "\u2028 \0 \x7f 😀",
        np.float32(0.1),
        np.bool_(True),
        np.int64(-1),
        np.array(1.5),
        np.empty((0, 3), np.int8),
        np.float64("nan"),
        np.array([ml_dtypes.bfloat16(1.5)]),
        ml_dtypes.bfloat16(-2),
        ml_dtypes.float8_e5m2(2),
        np.array([np.nan, -0.0, np.inf]),
    ],
    ids=repr,
)
def test_special_values(value):
    """Values that JSON can't represent are decoded to the same values, too."""
    assert_round_trip(value)


@pytest.mark.parametrize("dtype", [">f4", ">i8", ">u2", ">c8"])
def test_big_endian_arrays_keep_their_values(dtype):
    """Arrays in the other byte order are converted or refused, never read wrongly."""
    array = np.arange(5).astype(dtype)
    assert (round_trip(array) == array).all()


@pytest.mark.parametrize("text", ["\ud800", "file-\udcff.csv"])
def test_invalid_unicode(text):
    """Text that is not valid Unicode, such as an undecodable file name, is kept or refused."""
    with suppress(UnsupportedValue):
        assert_round_trip({"path": text})
    with suppress(UnsupportedValue):
        assert_round_trip({text: 1})


def test_very_long_keys(store):
    """A value under a very long key is either stored or refused before the commit."""
    try:
        arrays = {}
        state = encode({"k" * 3000: np.arange(3)}, "state", arrays)
    except UnsupportedValue:
        return
    tensors = [tensor(name, array, "state") for name, array in arrays.items()]
    take_over(store).commit(Snapshot(Position(), tensors, state))
    found = resume(store, take_over(store)).state
    assert same(found, {"k" * 3000: np.arange(3)})


NUMBERS = {
    "floats": st.floats(width=64),
    "ints": st.integers(-(2**63), 2**63 - 1),
    "bools": st.booleans(),
    "float32": st.floats(width=32).map(np.float32),
    "float16": st.floats(width=16).map(np.float16),
    "uint64": st.integers(0, 2**64 - 1).map(np.uint64),
    "complex64": st.builds(complex, st.floats(width=32), st.floats(width=32)).map(np.complex64),
    "bfloat16": st.floats(-9, 9).map(ml_dtypes.bfloat16),
}
"""Numbers of which long lists are arrays, by the name of their type."""


@settings(max_examples=30)
@given(data=st.data(), times=st.sampled_from([1, LONG_LIST, 400]))
@pytest.mark.parametrize("kind", NUMBERS)
def test_long_lists_of_numbers(kind, data, times):
    """They become one array, and come back as what they were, to the bit and with their types."""
    few = data.draw(st.lists(NUMBERS[kind], min_size=1, max_size=LONG_LIST))
    numbers = few * times
    for value in (numbers, tuple(numbers), dict(enumerate(numbers)), {"a": {"b": numbers}}):
        assert_round_trip(value)
    arrays = {}
    encode(numbers, "state", arrays)
    assert len(arrays) == 1 or len(numbers) < LONG_LIST


@pytest.mark.parametrize(
    "odd",
    [True, 1, 1.5, None, "x", 2**63, -(2**63) - 1, [1], np.float32(1), np.float64(1), np.int64(1)],
    ids=repr,
)
@pytest.mark.parametrize("usual", [False, 2, 0.25, np.float32(3), np.float64(3)], ids=repr)
def test_long_lists_of_several_types(usual, odd):
    """One item of another type anywhere in the list keeps its type, and so do the others."""
    for place in (0, LONG_LIST // 2, LONG_LIST):
        assert_round_trip([*[usual] * place, odd, *[usual] * (LONG_LIST - place)])


def test_bits_of_long_lists():
    """Payloads of NaN, signs of zero and subnormal numbers are kept."""
    patterns = [0x7FF8000000000123, 0xFFF8000000000001, 1 << 63, 1, 0x7FF0000000000000]
    floats = np.array(patterns * LONG_LIST, np.uint64).view(np.float64).tolist()
    assert np.array(round_trip(floats)).tobytes() == np.array(floats).tobytes()


@given(st.sets(st.integers() | st.floats(allow_nan=False), min_size=1, max_size=5))
def test_long_sets(few):
    """Equal sets are stored as equal bytes, whatever the order of insertion was."""
    items = [*{*few, *range(1000, 1000 + 2 * LONG_LIST)}]
    assert_round_trip(set(items))
    assert_round_trip(frozenset(items))
    arrays, others, backwards = {}, {}, items[::-1]
    assert encode(set(items), "", arrays) == encode(set(backwards), "", others)
    assert [a.tobytes() for a in arrays.values()] == [a.tobytes() for a in others.values()]


def test_a_million_numbers_are_no_json():
    """A long history costs the manifest nothing."""
    arrays = {}
    tree = encode({"losses": [0.1 * i for i in range(1_000_000)]}, "state", arrays)
    assert len(json.dumps(tree)) < 100
    assert [array.nbytes for array in arrays.values()] == [8_000_000]


OF_0_1_0 = {
    "history": [0.5, {"$float": "nan"}, *[1.0] * 100],
    "state": {"$tuple": [3, {"$tuple": [*range(700)]}, None]},
    "seen": {"$set": [1, 2]},
    "counts": {"$Counter": {"$dict": [[1, 2], ["$a", 3]]}},
    "order": {"$OrderedDict": {"b": 1, "a": {"$frozenset": [{"$tuple": [1]}]}}},
}


def test_documents_of_the_first_version():
    """What 0.1.0 has stored, where long lists were JSON, is decoded as before."""
    found = decode(OF_0_1_0, {}.__getitem__)
    assert found["state"] == (3, tuple(range(700)), None)
    assert math.isnan(found["history"][1])
    assert found["history"][2:] == [1.0] * 100
    assert same(found["seen"], {1, 2})
    assert found["counts"] == Counter({1: 2, "$a": 3})
    assert found["order"] == OrderedDict([("b", 1), ("a", frozenset({(1,)}))])


@pytest.mark.parametrize("key", ["k" * 3000, "训" * 3000, "😀" * 70], ids=len)
def test_names_of_arrays_fit(key):
    """Names count bytes, and long ones stay distinct."""
    arrays = {}
    value = {key: np.arange(3), key + "b": np.arange(4), key + "c": {"d": [np.arange(5)]}}
    tree = encode(value, "state/callbacks/0", arrays)
    assert same(decode(tree, arrays.__getitem__), value)
    assert len(arrays) == 3
    assert all(len(name.encode()) <= MAX_NAME_BYTES for name in arrays)


@given(st.integers(0, 20_000), st.sampled_from([None, True, 3, "x", (1.0,), [], np.float64(1), {}]))
@pytest.mark.parametrize("kind", [list, tuple])
def test_packed_floats(kind, size, odd):
    """A copy of many floats is made where all are floats, and only there."""
    floats = [*map(float, range(size))]
    packed = PackedFloats.of(kind(floats))
    assert (packed is None) == (size < LONG_LIST)
    if packed:
        arrays = {}
        tree = encode(packed, "state", arrays)
        assert same(decode(tree, arrays.__getitem__), kind(floats))
        for place in (0, size // 2, size - 1):
            assert PackedFloats.of(kind([*floats[:place], odd, *floats[place + 1 :]])) is None


@pytest.mark.parametrize("text", ["", "123", "1234567890", "g" * 22])
def test_packed_floats_among_others(text):
    """Other values that take as many bytes as floats are not taken for floats."""
    assert PackedFloats.of([1.0, text, None, *[1.0] * LONG_LIST]) is None


@given(VALUES, VALUES)
def test_encoded_values(one, other):
    """A value that was encoded before is stored like the value itself, beside others."""
    arrays = {}
    tree = encode({"a": [Encoded.of(one)], "b": other, "a/0": one}, "state", arrays)
    assert same(decode(tree, arrays.__getitem__), {"a": [one], "b": other, "a/0": one})
    assert same(Encoded.of(one).decoded(), one)


class Kind(Counter):
    """A class derived from one of the supported ones."""


def test_classes_derived_from_supported_ones():
    """They are stored as their base; an array of one has more than its content, and is refused."""
    assert same(dict(round_trip(Kind("aab"))), {"a": 2, "b": 1})
    for array in (np.ma.masked_array([1, 2], [True, False]), np.array([1]).view(np.matrix)):
        with pytest.raises(UnsupportedValue, match="can't be stored"):
            encode(array, "state", {})


def test_dicts_of_other_kinds():
    """Ordered dicts and counters keep their type; other mappings become dicts."""
    ordered = OrderedDict([("b", 1), (2, 2)])
    assert round_trip(ordered) == ordered
    assert round_trip(Counter("abba")).most_common(1) == [("a", 2)]
    assert type(round_trip({"$Counter": {}})) is dict
    assert round_trip(defaultdict(list, {1: [2]})) == {1: [2]}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), "state is a object"),
        (Point(1, 2), "state is a Point"),
        ({"a": [1, {"b": object()}]}, "state/a/1/b is a object"),
        ((1, Fraction(1, 2)), "state/1 is a Fraction"),
        ({"zone": ZoneInfo("UTC")}, "state/zone is a ZoneInfo"),
        ({"f": len}, "state/f is a builtin_function_or_method"),
        ({1: {2: object}}, "state/0/0 is a type"),
        ({Fraction(1): 1}, "state/0/key is a Fraction"),
        ({"a": np.array(["text"])}, "state/a is a ndarray"),
        ({"a": np.array([object()])}, "state/a is a ndarray"),
        ({"a": np.datetime64("2026-01-01")}, "state/a is a datetime64"),
        ({"a": np.complex128(1)}, "state/a is a complex128"),
        ({"a": bytearray(b"x")}, "state/a is a bytearray"),
        ({"a": iter([])}, "state/a is a list_iterator"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_unsupported_value_is_located(value, message):
    """The message names the place and the type, in one line."""
    with pytest.raises(UnsupportedValue) as caught:
        encode(value, "state", {})
    assert str(caught.value) == f"{message}, which can't be stored"


def test_arrays_are_not_copied():
    """The collected arrays are the given objects, under names that start with the given prefix."""
    array = np.arange(3)
    arrays = {}
    tree = encode({"a": [array]}, "callbacks/0", arrays)
    assert arrays["callbacks/0/a/0"] is array
    assert tree == {"a": [{"$array": "callbacks/0/a/0"}]}


def test_tree_is_plain_json():
    """Everything outside the arrays is standard JSON, without NaN."""
    value = {"nan": float("nan"), "t": (1, {2}), "b": b"x", 1: np.float32(1), "s": {3.5}}
    text = json.dumps(encode(value, "state", {}), allow_nan=False)
    assert "NaN" not in text


def test_plain_state_is_readable_in_a_manifest():
    """Plain values are readable in the manifest with a text editor."""
    manifest = manifest_with(state={"epoch": 3, "name": "ä"}, position=Position(step=1))
    text = json.loads(manifest.to_bytes())["document"]
    assert text["state"] == {"epoch": 3, "name": "ä"}
    assert text["run"] == RUN


def test_deferred_state_is_added_to_a_snapshot():
    """It is encoded when the snapshot is written, beside what is encoded already."""
    calls = []

    def deferred():
        calls.append(1)
        arrays = {}
        state = encode({"late": np.arange(3)}, "state", arrays)
        return state, [tensor(name, array, "state") for name, array in arrays.items()]

    first = tensor("model/a", np.zeros(2))
    snapshot = Snapshot(Position(step=4), [first], {"data": 1}, deferred=deferred)
    assert calls == []
    encoded = snapshot.encoded()
    assert [t.name for t in encoded.tensors] == ["model/a", "state/late"]
    assert encoded.state == {"data": 1, "late": {"$array": "state/late"}}
    assert encoded.position == snapshot.position
    assert encoded.encoded() is encoded
    assert calls == [1]
