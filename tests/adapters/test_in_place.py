"""State that callbacks change in place: a capture equals the callback at its moment."""

from __future__ import annotations

import collections
import copy
import json
import time
import tracemalloc

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keepfit.callbacks import events
from keepfit.callbacks.adapters import fingerprints, user_callbacks
from keepfit.callbacks.adapters.fingerprints import digest_of
from keepfit.callbacks.adapters.frozen import copy_array, freeze, is_constant
from keepfit.callbacks.adapters.held_callbacks import HeldCallbacks
from keepfit.callbacks.adapters.values import captured as captured_module
from keepfit.callbacks.checkpoint.format.codec import decode
from keepfit.callbacks.errors import Refused
from keepfit.callbacks.exactness import ExactnessGuard
from tests.adapters.kept import stored, transferred
from tests.checkpoint.samples import same

LIMITS = {"copied": (1 << 20, 1 << 30), "read where they are": (40, 1 << 30)}
"""Limits by what is done with arrays larger than 40 bytes."""


class Own(keras.callbacks.Callback):
    """A callback with the given attributes."""

    def __init__(self, **attributes):
        super().__init__()
        vars(self).update(attributes)

    def attributes(self):
        """Return the callback's own attributes."""
        return {k: v for k, v in vars(self).items() if k not in ("params", "_model")}


@pytest.fixture(params=LIMITS)
def limits(request, monkeypatch):
    """Set the limits for large arrays."""
    set_limits(monkeypatch, *LIMITS[request.param])


def set_limits(monkeypatch, copied, read):
    monkeypatch.setattr(user_callbacks, "MAX_COPY_SIZE", copied)
    monkeypatch.setattr(fingerprints, "MAX_READ_SIZE", read)


def captured(held):
    """Capture now; return a function that decodes the state later, as a checkpoint restores it."""
    capture = held.capture()

    def saved():
        arrays = {}
        text = json.dumps(capture.encode(arrays, ExactnessGuard()))
        stored_arrays = {name: array.copy() for name, array in arrays.items()}
        return decode(json.loads(text), stored_arrays.__getitem__)

    return saved


def resumed(saved, initial):
    """Return the attributes of a new callback that was restored to the saved state."""
    new = HeldCallbacks.hold([Own(**copy.deepcopy(initial))])
    new.restore(saved)
    (only,) = new
    return only.callback.attributes()


ARRAYS = st.sampled_from(["float64", "int8", "bool", "complex64"]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=2, max_side=9))
)
ATOMS = st.none() | st.integers(-9, 9) | st.floats() | st.text(max_size=3) | st.booleans()
NESTS = st.recursive(
    ATOMS | ARRAYS | ARRAYS.map(lambda a: a.T) | st.sets(st.integers(0, 9), max_size=3),
    lambda inside: (
        st.lists(inside, max_size=4)
        | st.lists(inside, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=2) | st.integers(0, 5), inside, max_size=3)
        | st.dictionaries(st.text(max_size=2), inside, max_size=3).map(collections.OrderedDict)
        | st.integers(0, 70).map(lambda n: [0.5] * n)
    ),
    max_leaves=8,
)
STATES = st.dictionaries(st.sampled_from(["a", "b", "c"]), NESTS, max_size=3)


def change_in_place(value, random):
    """Change one place within a nest of values at random, if there is one that can change."""
    match value:
        case np.ndarray() if value.size:
            value.flat[random.randrange(value.size)] = random.choice([0, 1])
        case list() | dict() if value:
            key = random.choice(list(value) if isinstance(value, dict) else range(len(value)))
            if random.random() < 0.6:
                change_in_place(value[key], random)
            elif random.random() < 0.5:
                value[key] = random.choice([None, True, 1, 1.0, -0.0, float("nan"), [], "x"])
            else:
                del value[key]
        case tuple() if value:
            change_in_place(random.choice(value), random)
        case list():
            value.append(random.choice([2.5, np.ones(3), [1]]))
        case set():
            value ^= {random.randrange(9)}


def change_an_attribute(callback, random):
    """Change one attribute of the callback, in place or not, or add one."""
    name = random.choice("abcd")
    if random.random() < 0.7:
        change_in_place(getattr(callback, name, None), random)
    else:
        setattr(callback, name, random.choice([None, 0, 1.5, [], {}, np.zeros(9)]))


@settings(max_examples=150, deadline=None)
@given(initial=STATES, random=st.randoms(use_true_random=False), rounds=st.integers(1, 4))
@pytest.mark.parametrize("limit", LIMITS)
def test_a_resumed_callback_equals_the_captured_one(initial, random, rounds, limit):
    """That is so at every save, although the callback goes on while the save is written."""
    with pytest.MonkeyPatch.context() as patch:
        set_limits(patch, *LIMITS[limit])
        callback = Own(**copy.deepcopy(initial))
        held = HeldCallbacks.hold([callback])
        for _ in range(rounds):
            for _ in range(random.randrange(4)):
                change_an_attribute(callback, random)
            expected = copy.deepcopy(callback.attributes())
            saved = captured(held)
            change_an_attribute(callback, random)
            found = resumed(saved(), initial)
            assert same(dict(sorted(found.items())), dict(sorted(expected.items())))


@pytest.mark.usefixtures("limits")
def test_changed_back():
    """A value that was changed at the save, and has been reset before it is written, is kept."""
    callback = Own(matrix=np.zeros((9, 9)))
    held = HeldCallbacks.hold([callback])
    callback.matrix += 1
    saved = captured(held)
    callback.matrix[:] = 0
    assert resumed(saved(), {"matrix": np.zeros((9, 9))})["matrix"].all()
    assert captured(held)()[0]["state"] == {}


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize(
    "make",
    [
        lambda a: a,
        lambda a: a[::2],
        lambda a: a.T,
        lambda a: a[None, :, ::-1],
        lambda a: {"deep": [(a, 1), {"er": a[1:]}]},
        lambda a: np.asfortranarray(a),
    ],
    ids=["itself", "every other row", "transposed", "reversed", "nested", "Fortran order"],
)
def test_views(make):
    """A change in place is found in whatever view of an array the callback holds."""
    base = np.zeros((10, 10))
    value = make(base)
    held = HeldCallbacks.hold([Own(value=value)])
    assert stored(held)[0]["state"] == {}
    (value if isinstance(value, np.ndarray) else base)[...] = 3
    (new,) = transferred(held, Own(value=make(np.zeros((10, 10)))))
    assert same(new.callback.value, decoded(value))


def decoded(value):
    """Return the value with its arrays as they come from a checkpoint."""
    return freeze(value, lambda leaf: np.ascontiguousarray(leaf))


@pytest.mark.usefixtures("limits")
def test_read_only_view_of_a_changing_array():
    """What can't be changed through the view may be changed through its base."""
    base = np.zeros(100)
    view = base[:]
    view.flags.writeable = False
    held = HeldCallbacks.hold([Own(view=view)])
    base[7] = 1
    assert stored(held)[0]["state"]["view"][7] == 1


@pytest.mark.usefixtures("limits")
def test_constant_arrays(tmp_path):
    """They are neither copied nor stored, unless they are replaced."""
    np.ones(100).tofile(tmp_path / "data")
    mapped = np.memmap(tmp_path / "data", mode="r")
    array = np.ones(100)
    array.flags.writeable = False
    callback = Own(array=array, nested=[mapped])
    held = HeldCallbacks.hold([callback])
    assert stored(held)[0]["state"] == {}
    assert is_constant(array)
    assert is_constant(mapped[3:])
    assert copy_array(array) is array
    replacement = np.zeros(100)
    replacement.flags.writeable = False
    callback.array = replacement
    assert stored(held)[0]["state"].keys() == {"array"}


@pytest.mark.usefixtures("limits")
def test_type_and_shape_are_part_of_the_value():
    """Arrays of equal bytes differ by their type and their shape."""
    for before, after in (
        (np.zeros(100), np.zeros(100, np.int64)),
        (np.zeros((10, 10)), np.zeros((5, 20))),
        (np.zeros(100), -np.zeros(100)),
    ):
        callback = Own(value=before)
        held = HeldCallbacks.hold([callback])
        callback.value = after
        (new,) = transferred(held, Own(value=before))
        assert same(new.callback.value, after)


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize(
    "value",
    [
        np.array([{}, None], object),
        np.array(["text"]),
        np.ma.masked_array(np.zeros(100), np.ones(100)),
        [np.zeros(100), np.array([[]], object)],
        np.zeros(100, np.complex128),
    ],
    ids=["objects", "texts", "masked", "among others", "complex128"],
)
def test_arrays_that_cannot_be_stored(value, logged):
    """They are named once; the rest is kept."""
    callback = Own(value=value, count=0)
    held = HeldCallbacks.hold([callback])
    callback.count = 1
    assert stored(held)[0]["state"] == {"count": 1}
    stored(held)
    (entry,) = logged
    assert (entry["event"], entry["attributes"]) == (events.STATE_UNKNOWN, ["value"])


def test_a_large_constant_array_is_not_copied(monkeypatch):
    """A save of a callback that holds a validation set takes no memory for it."""
    set_limits(monkeypatch, 1 << 20, 1 << 30)
    held = HeldCallbacks.hold([Own(data=np.ones(32 << 20, np.uint8), count=0)])
    tracemalloc.start()
    try:
        saved = captured(held)()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert saved[0]["state"] == {}
    assert peak < 1 << 20


def test_large_array_is_read_until_it_has_changed(monkeypatch):
    """After its first change it is copied at each save, since it will change again."""
    set_limits(monkeypatch, 1 << 10, 1 << 30)
    read = []

    def recording(value, **options):
        read.append(value)
        return fingerprints.fingerprint(value, **options)

    monkeypatch.setattr(user_callbacks, "fingerprint", recording)
    callback = Own(data=np.zeros(1 << 12))
    held = HeldCallbacks.hold([callback])
    for step in range(1, 4):
        callback.data[step] = step
        saved = captured(held)
        callback.data[0] += 1
        assert saved()[0]["state"]["data"][[0, step]].tolist() == [step - 1, step]
    assert len(read) == 1 + 2 + 1 + 1  # the first; both the array and its copy; copies


def test_slow_comparison_is_named_once(monkeypatch, logged):
    """The log says that training waits, and how to avoid it."""
    set_limits(monkeypatch, 1 << 10, 1 << 30)
    held = HeldCallbacks.hold([Own(data=np.zeros(1 << 12), other=0)])
    stored(held)
    assert logged == []
    monkeypatch.setattr(captured_module, "SLOW_SECONDS", 0.0)
    stored(held)
    stored(held)
    (entry,) = logged
    assert (entry["event"], entry["attributes"]) == (events.STATE_LARGE, ["data"])
    assert "flags.writeable" in entry["fix"]


def test_arrays_too_large_to_be_read(monkeypatch, logged):
    """The log names them and the way out once; they are saved when they are replaced."""
    set_limits(monkeypatch, 1 << 10, 1 << 15)
    callback = Own(data=np.zeros(1 << 13), other=np.zeros(3))
    held = HeldCallbacks.hold([callback])
    callback.data[0] = callback.other[0] = 1
    assert stored(held)[0]["state"].keys() == {"other"}
    stored(held)
    (entry,) = logged
    assert (entry["event"], entry["attributes"]) == (events.STATE_UNKNOWN, ["data"])
    assert "flags.writeable" in entry["fix"]
    callback.data = np.ones(1 << 13)
    assert stored(held)[0]["state"]["data"].all()
    callback.data[5] = 7
    assert stored(held)[0]["state"]["data"][5] == 7


def test_arrays_too_large_to_be_read_are_no_exact_training(monkeypatch):
    """With --exact they end it before it begins; read-only ones do not."""
    set_limits(monkeypatch, 1 << 10, 1 << 15)
    data = np.zeros(1 << 13)
    with pytest.raises(Refused):
        HeldCallbacks.hold([Own(data=data)], ExactnessGuard(exact=True)).capture()
    data.flags.writeable = False
    HeldCallbacks.hold([Own(data=data)], ExactnessGuard(exact=True)).capture()


@pytest.mark.parametrize("threads", [1, 3])
def test_digest_does_not_depend_on_cores(monkeypatch, threads):
    """Another machine finds the same digest; each byte counts."""
    monkeypatch.setattr(fingerprints, "_BLOCK", 1 << 10)
    arrays = [np.arange(10_000), np.zeros((0, 3)), np.array(5)]
    before = digest_of(arrays)
    monkeypatch.setattr(fingerprints, "_THREADS", threads)
    assert digest_of(arrays) == before
    arrays[0][-1] += 1
    assert digest_of(arrays) != before


@pytest.mark.parametrize(
    "odd",
    [[1.0], {"a": 1}, np.array(1.0), np.zeros(2), np.float32(1), {1}, (1, [2]), None, "x"],
    ids=repr,
)
@pytest.mark.parametrize("usual", [0.5, 3, True])
def test_changing_items_of_long_lists_are_copied(usual, odd):
    """One container or array among many numbers is found, wherever it stands."""
    for place in (0, 3000, 9999):
        items = [usual] * 10_000
        items[place] = copy.deepcopy(odd)
        callback = Own(items=items)
        held = HeldCallbacks.hold([Own()])
        (only,) = held
        vars(only.callback).update(callback.attributes())
        expected = copy.deepcopy(items)
        saved = captured(held)
        match items[place]:
            case list():
                items[place].append(9)
            case dict():
                items[place]["b"] = 9
            case set():
                items[place].add(9)
            case tuple():
                items[place][1].append(9)
            case np.ndarray():
                items[place][...] = 9
        assert same(saved()[0]["state"]["items"], expected)


def test_training_does_not_wait_for_a_long_history():
    """A list of a million numbers is copied, not encoded, on the training thread."""
    held = HeldCallbacks.hold([Own(losses=[])])
    (only,) = held
    only.callback.losses += [0.1 * i for i in range(1_000_000)]
    used = []
    for _ in range(3):
        began = time.thread_time()
        saved = captured(held)
        used.append(time.thread_time() - began)
    assert min(used) < 0.1  # 15 ms; encoded number by number it was 2 s
    assert same(saved()[0]["state"]["losses"], only.callback.losses)


def test_arrays_of_a_state_that_is_lost_are_not_stored(logged):
    """A state is stored as a whole or not at all."""

    class Bad(keras.callbacks.Callback):
        def get_state(self):
            return {"first": np.zeros(3), "then": object()}

        def set_state(self, state):
            raise AssertionError("nothing was stored")

    arrays = {}
    entries = HeldCallbacks.hold([Bad()]).capture().encode(arrays, ExactnessGuard())
    assert entries == [{"class": "Bad", "state": None}]
    assert arrays == {}
    assert [entry["event"] for entry in logged] == [events.STATE_LOST]
