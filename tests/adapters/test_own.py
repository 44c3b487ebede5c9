"""Callbacks of the user's: what training changed is their state, or what they say themselves."""

from __future__ import annotations

import collections
import threading
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from keepfit.callbacks import events
from keepfit.callbacks.adapters import held_callbacks
from keepfit.callbacks.adapters.registry import LARGE_ARRAYS
from tests.adapters.kept import passed_on, stored

Callback = keras.callbacks.Callback


class Own(Callback):
    """Attributes as given, and a hook to change them."""

    def __init__(self, **attributes):
        super().__init__()
        vars(self).update(attributes)


def changed(callback, **attributes):
    """Held, and then changed as training would."""
    held = held_callbacks.hold_callbacks([callback])
    vars(callback).update(attributes)
    return held


def attributes_of(held):
    own = vars(held.callback)
    return {name: value for name, value in own.items() if name not in ("params", "_model")}


def test_what_training_changed_is_kept():
    """Attributes that were changed or added; the others are as the script sets them."""
    held = changed(Own(count=0, limit=5, name="a"), count=3, seen=[1, 2])
    (new,) = passed_on(held, Own(count=0, limit=9, name="b"))
    assert attributes_of(new) == {"count": 3, "limit": 9, "name": "b", "seen": [1, 2]}


def test_what_keras_sets_is_not_kept(train):
    """The model and the parameters of fit belong to the process."""
    callback = Own(count=0)
    held = held_callbacks.hold_callbacks([callback])
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
    """It comes back equal and of its type, from whatever value it was changed."""
    held = changed(Own(value=before), value=after)
    (new,) = passed_on(held, Own(value=before))
    assert new.callback.value == after
    if (before, type(before)) != (after, type(after)):
        assert type(new.callback.value) is type(after)


def test_type_alone_is_a_change():
    """1, 1.0 and True are equal to Python, not to a callback."""
    for before, after in ((1, True), (1, 1.0), ([1], (1,)), ("1", 1)):
        (new,) = passed_on(changed(Own(value=before), value=after), Own(value=before))
        assert type(new.callback.value) is type(after)


def test_array_that_was_changed_in_place():
    """Its content tells; what was captured stays as it was."""
    callback = Own(table=np.zeros(4), rows=[np.zeros(2)])
    held = held_callbacks.hold_callbacks([callback])
    assert stored(held)[0]["state"] == {}
    callback.table[1] = 7
    callback.rows[0][0] = 3
    arrays = {}
    held_callbacks.capture(held, arrays)
    before = [array.copy() for array in arrays.values()]
    callback.table[2] = 8
    assert all(np.array_equal(a, b) for a, b in zip(arrays.values(), before, strict=True))
    (new,) = passed_on(held, Own(table=np.zeros(4), rows=[np.zeros(2)]))
    assert new.callback.table.tolist() == [0, 7, 8, 0]
    assert new.callback.rows[0].tolist() == [3, 0]


def test_list_that_was_changed_in_place():
    """A list or dict that the callback appends to is state, also if it began in the constructor."""
    callback = Own(seen=[], table={"a": [1]})
    held = held_callbacks.hold_callbacks([callback])
    callback.seen.append(5)
    callback.table["a"].append(2)
    (new,) = passed_on(held, Own(seen=[], table={"a": [1]}))
    assert attributes_of(new) == {"seen": [5], "table": {"a": [1, 2]}}


def test_large_array_by_identity():
    """Above a mebibyte only another array is a change: reading it all would cost too much."""
    callback = Own(data=np.zeros(LARGE_ARRAYS + 1, np.uint8))
    held = held_callbacks.hold_callbacks([callback])
    callback.data[0] = 1
    assert stored(held)[0]["state"] == {}
    callback.data = np.ones(LARGE_ARRAYS + 1, np.uint8)
    assert stored(held)[0]["state"]["data"].all()


class Opaque:
    """Nothing that could be stored."""


@pytest.mark.parametrize("value", [threading.Lock(), Opaque(), Path("a"), object(), iter([1])])
def test_what_cannot_be_stored_is_named_once(value, logged):
    """By its callback's class and its name, with what to do; the rest is kept."""
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
    """One line names all of them; a later one has a line of its own."""
    callback = Own()
    held = changed(callback, one=Opaque(), other=[Opaque()])
    stored(held)
    callback.third = {"a": Opaque()}
    stored(held)
    assert [entry["attributes"] for entry in logged] == [["one", "other"], ["third"]]


def test_functions_are_no_state(logged):
    """Lambdas, methods and classes, as configuration or set later, are nothing to warn about."""
    callback = Own(schedule=lambda epoch: 0.1, kind=dict)
    held = changed(callback, hook=callback.on_epoch_end, other=len)
    assert stored(held)[0]["state"] == {}
    assert logged == []


def test_lambda_callback(train, logged):
    """Keras' LambdaCallback has no state that could be known, and warns of nothing."""
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None)
    held = held_callbacks.hold_callbacks([callback])
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
    """It is still one after resume, or the log says that it was not kept: `counts[key] += 1`."""
    import copy

    callback = Own(counts=copy.copy(value))
    held = held_callbacks.hold_callbacks([callback])
    change(callback.counts)
    with capture_logs() as logs:
        (new,) = passed_on(held, Own(counts=copy.copy(value)))
    assert type(new.callback.counts) is type(value)
    assert new.callback.counts == callback.counts or logs


Point = collections.namedtuple("Point", ["x", "y"])


def test_named_tuple():
    """It still has its names after resume, or the log says that it was not kept."""
    held = changed(Own(best=Point(0, 0)), best=Point(1, 2))
    with capture_logs() as logs:
        (new,) = passed_on(held, Own(best=Point(0, 0)))
    assert isinstance(new.callback.best, Point)
    assert new.callback.best.x == 1 or logs


def test_attribute_that_holds_itself():
    """It can't be stored; that is logged, and stops no training."""
    loop = []
    loop.append(loop)
    with capture_logs() as logs:
        held = changed(Own(count=0), count=1, loop=loop)
        assert stored(held)[0]["state"] == {"count": 1}
    assert [log["attributes"] for log in logs] == [["loop"]]


class Slots(Callback):
    """Speaks for itself."""

    def __init__(self):
        super().__init__()
        self.secret, self.shown = 1, np.zeros(2)

    def get_state(self):
        return {"shown": self.shown, "tuple": (1, 2)}

    def set_state(self, state):
        self.got = state


def test_own_methods_win(logged):
    """What get_state gives is what set_state gets, and attributes are not looked at."""
    callback = Slots()
    held = held_callbacks.hold_callbacks([callback])
    callback.secret = threading.Lock()
    callback.shown[0] = 4
    (new,) = passed_on(held, Slots())
    assert new.callback.secret == 1
    assert new.callback.got["tuple"] == (1, 2)
    assert new.callback.got["shown"].tolist() == [4, 0]
    assert logged == []


def test_own_methods_win_over_an_adapter():
    """Also in a class derived from one of Keras'."""

    class Early(keras.callbacks.EarlyStopping):
        def get_state(self):
            return 5

        def set_state(self, state):
            self.got = state

    held = held_callbacks.hold_callbacks([Early()])
    assert stored(held) == [{"class": "Early", "state": {"state": 5}}]
    (new,) = passed_on(held, Early())
    assert new.callback.got == 5


def test_arrays_of_own_state_are_copied():
    """The callback may go on to change them while they are being written."""
    callback = Slots()
    held = held_callbacks.hold_callbacks([callback])
    arrays = {}
    held_callbacks.capture(held, arrays)
    callback.shown[:] = 9
    assert [array.tolist() for array in arrays.values()] == [[0, 0]]


def test_own_state_that_cannot_be_stored(logged):
    """The log names the callback; the others' state is kept, and training goes on."""

    class Bad(Callback):
        def get_state(self):
            return {"thing": Opaque()}

        def set_state(self, state):
            raise AssertionError("nothing was stored")

    held = [*held_callbacks.hold_callbacks([Bad()]), *changed(Own(count=0), count=1)]
    saved = stored(held)
    assert saved == [{"class": "Bad", "state": None}, {"class": "Own", "state": {"count": 1}}]
    (entry,) = logged
    assert (entry["event"], entry["callback"]) == (events.STATE_LOST, "Bad")
    assert "Opaque" in entry["reason"]


def test_half_of_the_methods_is_none():
    """Who can only be asked, or only be told, is looked at like any other."""

    class Asked(Callback):
        def __init__(self):
            super().__init__()
            self.count = 0

        def get_state(self):
            raise AssertionError("not asked")

    callback = Asked()
    held = held_callbacks.hold_callbacks([callback])
    callback.count = 2
    (new,) = passed_on(held, Asked())
    assert new.callback.count == 2
