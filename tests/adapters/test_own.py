"""Custom callbacks: their state is what training has changed, or what get_state returns."""

from __future__ import annotations

import collections
import threading

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.callbacks import events
from keepfit.callbacks.adapters.held_callbacks import HeldCallbacks
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.logs.logger import capture_logs
from tests.adapters.kept import stored, transferred

Callback = keras.callbacks.Callback


class Own(Callback):
    """A callback with the given attributes."""

    def __init__(self, **attributes):
        super().__init__()
        vars(self).update(attributes)


def changed(callback, **attributes):
    """Return the callback inside Resumable, changed as training would change it."""
    held = HeldCallbacks.hold([callback])
    vars(callback).update(attributes)
    return held


def attributes_of(held):
    """Return the callback's attributes without those that Keras sets."""
    own = vars(held.callback)
    return {name: value for name, value in own.items() if name not in ("params", "_model")}


def test_what_training_changed_is_kept():
    """Changed or added attributes are restored; the others are as the script sets them."""
    held = changed(Own(count=0, limit=5, name="a"), count=3, seen=[1, 2])
    (new,) = transferred(held, Own(count=0, limit=9, name="b"))
    assert attributes_of(new) == {"count": 3, "limit": 9, "name": "b", "seen": [1, 2]}


def test_what_keras_sets_is_not_kept(train):
    """The model and the parameters of fit belong to the process."""
    callback = Own(count=0)
    held = HeldCallbacks.hold([callback])
    train(callback)
    assert stored(held) == [{"class": "Own", "state": {}}]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.lists(inside, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inside, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(before=VALUES, after=VALUES)
def test_any_plain_value(before, after):
    """An equal value of the same type is restored, whatever the value was before."""
    held = changed(Own(value=before), value=after)
    (new,) = transferred(held, Own(value=before))
    assert new.callback.value == after
    if (before, type(before)) != (after, type(after)):
        assert type(new.callback.value) is type(after)


def test_type_alone_is_a_change():
    """1, 1.0 and True are equal in Python, but not the same state."""
    for before, after in ((1, True), (1, 1.0), ([1], (1,)), ("1", 1)):
        (new,) = transferred(changed(Own(value=before), value=after), Own(value=before))
        assert type(new.callback.value) is type(after)


def test_array_that_was_changed_in_place():
    """Its content is compared; what was captured does not change afterwards."""
    callback = Own(table=np.zeros(4), rows=[np.zeros(2)])
    held = HeldCallbacks.hold([callback])
    assert stored(held)[0]["state"] == {}
    callback.table[1] = 7
    callback.rows[0][0] = 3
    arrays = {}
    held.capture().encode(arrays, ExactnessGuard())
    before = [array.copy() for array in arrays.values()]
    callback.table[2] = 8
    assert all(np.array_equal(a, b) for a, b in zip(arrays.values(), before, strict=True))
    (new,) = transferred(held, Own(table=np.zeros(4), rows=[np.zeros(2)]))
    assert new.callback.table.tolist() == [0, 7, 8, 0]
    assert new.callback.rows[0].tolist() == [3, 0]


def test_list_that_was_changed_in_place():
    """A list or dict from the constructor that the callback appends to is state."""
    callback = Own(seen=[], table={"a": [1]})
    held = HeldCallbacks.hold([callback])
    callback.seen.append(5)
    callback.table["a"].append(2)
    (new,) = transferred(held, Own(seen=[], table={"a": [1]}))
    assert attributes_of(new) == {"seen": [5], "table": {"a": [1, 2]}}


class Opaque:
    """A value that can't be stored."""


@pytest.mark.parametrize("value", [threading.Lock(), Opaque(), object(), iter([1])])
def test_what_cannot_be_stored_is_named_once(value, logged):
    """One line names class and attribute, with the way out; the rest is kept."""
    callback = Own(count=0, thing=None)
    held = changed(callback, count=2, thing=value)
    saved = stored(held)
    stored(held)
    assert saved[0]["state"] == {"count": 2}
    (entry,) = logged
    assert entry["event"] == events.STATE_UNKNOWN
    assert (entry["callback"], entry["attributes"]) == ("Own", ["thing"])
    assert "get_state()" in entry["fix"]


def test_several_that_cannot_be_stored(logged):
    """One line names all of them; a later one gets a line of its own."""
    callback = Own()
    held = changed(callback, one=Opaque(), other=[Opaque()])
    stored(held)
    callback.third = {"a": Opaque()}
    stored(held)
    assert [entry["attributes"] for entry in logged] == [["one", "other"], ["third"]]


def test_functions_are_no_state(logged):
    """Lambdas, methods and classes, whether configured or set later, cause no warning."""
    callback = Own(schedule=lambda epoch: 0.1, kind=dict)
    held = changed(callback, hook=callback.on_epoch_end, other=len)
    assert stored(held)[0]["state"] == {}
    assert logged == []


def test_lambda_callback(train, logged):
    """Keras' LambdaCallback has no state that could be known, and causes no warning."""
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None)
    held = HeldCallbacks.hold([callback])
    train(callback)
    assert stored(held) == [{"class": "LambdaCallback", "state": {}}]
    assert logged == []


KINDS = {
    "defaultdict": (collections.defaultdict(int), lambda value: value.update(a=1)),
    "Counter": (collections.Counter(), lambda value: value.update("ab")),
    "OrderedDict": (collections.OrderedDict(), lambda value: value.update(a=1)),
}


@pytest.mark.parametrize(("value", "change"), KINDS.values(), ids=KINDS)
def test_dict_of_another_kind(value, change):
    """It keeps its type, so that `counts[key] += 1` works, or the log reports that it is lost."""
    import copy

    callback = Own(counts=copy.copy(value))
    held = HeldCallbacks.hold([callback])
    change(callback.counts)
    with capture_logs() as logs:
        (new,) = transferred(held, Own(counts=copy.copy(value)))
    assert type(new.callback.counts) is type(value)
    assert new.callback.counts == callback.counts or logs


Point = collections.namedtuple("Point", ["x", "y"])


def test_named_tuple():
    """It keeps its names, or the log reports that it is not kept."""
    held = changed(Own(best=Point(0, 0)), best=Point(1, 2))
    with capture_logs() as logs:
        (new,) = transferred(held, Own(best=Point(0, 0)))
    assert isinstance(new.callback.best, Point)
    assert new.callback.best.x == 1 or logs


def test_attribute_that_contains_itself():
    """It can't be stored; that is logged, and training continues."""
    loop = []
    loop.append(loop)
    with capture_logs() as logs:
        held = changed(Own(count=0), count=1, loop=loop)
        assert stored(held)[0]["state"] == {"count": 1}
    assert [log["attributes"] for log in logs] == [["loop"]]


class WithMethods(Callback):
    """A callback with get_state and set_state."""

    def __init__(self):
        super().__init__()
        self.secret, self.shown = 1, np.zeros(2)

    def get_state(self):
        return {"shown": self.shown, "tuple": (1, 2)}

    def set_state(self, state):
        self.received = state


def test_own_methods_are_used(logged):
    """set_state gets what get_state returned, and attributes are not examined."""
    callback = WithMethods()
    held = HeldCallbacks.hold([callback])
    callback.secret = threading.Lock()
    callback.shown[0] = 4
    (new,) = transferred(held, WithMethods())
    assert new.callback.secret == 1
    assert new.callback.received["tuple"] == (1, 2)
    assert new.callback.received["shown"].tolist() == [4, 0]
    assert logged == []


def test_own_methods_replace_an_adapter():
    """They do so in a class derived from one of Keras', too."""

    class Early(keras.callbacks.EarlyStopping):
        def get_state(self):
            return 5

        def set_state(self, state):
            self.received = state

    held = HeldCallbacks.hold([Early()])
    assert stored(held) == [{"class": "Early", "state": {"state": 5}}]
    (new,) = transferred(held, Early())
    assert new.callback.received == 5


def test_arrays_of_own_state_are_copied():
    """The callback may change them while they are being written."""
    callback = WithMethods()
    held = HeldCallbacks.hold([callback])
    arrays = {}
    held.capture().encode(arrays, ExactnessGuard())
    callback.shown[:] = 9
    assert [array.tolist() for array in arrays.values()] == [[0, 0]]


def test_own_state_that_cannot_be_stored(logged):
    """The log names the callback; the others' state is kept, and training continues."""

    class Bad(Callback):
        def get_state(self):
            return {"thing": Opaque()}

        def set_state(self, state):
            raise AssertionError("nothing was stored")

    held = HeldCallbacks([*HeldCallbacks.hold([Bad()]), *changed(Own(count=0), count=1)])
    saved = stored(held)
    assert saved == [{"class": "Bad", "state": None}, {"class": "Own", "state": {"count": 1}}]
    (entry,) = logged
    assert (entry["event"], entry["callback"]) == (events.STATE_LOST, "Bad")
    assert "Opaque" in entry["reason"]


def test_only_one_of_both_methods():
    """A callback with only one of both methods is treated like any other."""

    class WithGetStateOnly(Callback):
        def __init__(self):
            super().__init__()
            self.count = 0

        def get_state(self):
            raise AssertionError("not asked")

    callback = WithGetStateOnly()
    held = HeldCallbacks.hold([callback])
    callback.count = 2
    (new,) = transferred(held, WithGetStateOnly())
    assert new.callback.count == 2
