"""Kinds of values in a user's callback: what is kept of each, and what a store can't do with it."""

from __future__ import annotations

import dataclasses
import functools
import logging
import random
import re
import threading
from collections import OrderedDict, defaultdict, deque, namedtuple
from datetime import UTC, datetime, timedelta
from enum import Enum, Flag, IntEnum
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.callbacks import events
from keepfit.callbacks.adapters.held_callbacks import HeldCallbacks
from keepfit.callbacks.adapters.user_callbacks import ChangedAttributesAdapter
from keepfit.callbacks.checkpoint.format.codec import Tagged
from keepfit.callbacks.checkpoint.format.state_schema import InvalidState
from keepfit.callbacks.errors import Refused
from tests.adapters.kept import restore, stored

Callback = keras.callbacks.Callback


class Own(Callback):
    """A callback with the given attributes."""

    def __init__(self, **attributes):
        super().__init__()
        vars(self).update(attributes)


def begun(callback, model=None):
    """Return the callback inside Resumable, after a beginning that does nothing."""
    held = HeldCallbacks.hold([callback])
    vars(callback)["_model"] = model
    with held.beginning(callback):
        pass
    return held


def resumed(held, callback, model=None):
    """Return another callback with the state of the first one, checked as from a store."""
    new, saved = begun(callback, model), stored(held)
    new.check(saved, model)
    restore(new, saved)
    return callback


class Phase(Enum):
    """The phases of a training."""

    WARM = "warm"
    MAIN = "main"


class Level(IntEnum):
    """Numbers with names."""

    LOW = 1
    HIGH = 2


class Marks(Flag):
    """Flags that can be combined."""

    A = 1
    B = 2


Point = namedtuple("Point", ["x", "y"])


@dataclasses.dataclass
class Tracker:
    """A mutable dataclass."""

    best: float = 0.0
    limit: int = 5
    seen: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Best:
    """A frozen dataclass, which training replaces."""

    epoch: int = 0
    values: tuple = ()


class Plain:
    """An object of a plain class, with another one inside."""

    __slots__ = ("count", "inner", "rng")

    def __init__(self):
        self.count, self.inner, self.rng = 0, Tracker(), np.random.default_rng(3)


BITS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


def advanced(generator, steps):
    """Return the generator after a number of draws of different sizes."""
    for _ in range(steps):
        generator.random()
    return generator


def numpy_generator(name, seed):
    """Return a generator with this bit generator; half of a number may be left over in it."""
    generator = np.random.Generator(getattr(np.random, name)(seed))
    generator.integers(0, 9, dtype=np.uint32)
    return generator


def legacy(seed):
    """Return a legacy generator, with a normal number left over."""
    state = np.random.RandomState(seed)
    state.normal()
    return state


GENERATORS = {
    **{name: functools.partial(numpy_generator, name) for name in BITS},
    "RandomState": legacy,
    "Random": random.Random,
}


def draws(generator):
    """Return the next numbers of a generator."""
    if isinstance(generator, np.random.RandomState):
        return generator.normal(size=3).tolist()
    return [generator.random() for _ in range(3)]


@settings(max_examples=30, deadline=None)
@given(kind=st.sampled_from([*GENERATORS]), seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 9))
def test_a_generator_continues(kind, seed, steps):
    """It draws the same numbers next; it stays the object that other code may share."""
    rng = GENERATORS[kind](seed)
    held = begun(Own(rng=rng, several=[GENERATORS[kind](1)]))
    advanced(rng, steps)
    mine = GENERATORS[kind](seed)
    new = resumed(held, Own(rng=mine, several=[GENERATORS[kind](1)]))
    assert new.rng is mine
    assert draws(new.rng) == draws(rng)


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_generator_that_training_has_made(kind):
    """The next attempt has none yet, so a new one is made of one of the known kinds."""
    callback = Own(rng=None)
    held = begun(callback)
    callback.rng = advanced(GENERATORS[kind](5), 4)
    new = resumed(held, Own(rng=None))
    assert type(new.rng) is type(callback.rng)
    assert draws(new.rng) == draws(callback.rng)


def test_a_generator_in_get_state():
    """`set_state` gets a generator of the same state."""

    class WithMethods(Callback):
        def __init__(self):
            super().__init__()
            self.rng = np.random.default_rng(1)

        def get_state(self):
            return {"rng": self.rng, "when": datetime(2026, 1, 2, tzinfo=UTC), "t": tf.ones(2)}

        def set_state(self, state):
            self.state = state

    old = WithMethods()
    held = HeldCallbacks.hold([old])
    advanced(old.rng, 5)
    new = resumed(held, WithMethods())
    assert draws(new.state["rng"]) == draws(old.rng)
    assert new.state["when"] == datetime(2026, 1, 2, tzinfo=UTC)
    assert new.state["t"].numpy().tolist() == [1, 1]


PLAIN = (
    st.datetimes()
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.complex_numbers(allow_nan=False)
    | st.sampled_from([Path("a/b"), Phase.MAIN, Level.HIGH, Marks.A | Marks.B, Point(1, [2])])
)
HASHABLE = PLAIN.filter(lambda value: not isinstance(value, Point))
VALUES = st.recursive(
    PLAIN,
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.lists(inside, max_size=3).map(tuple)
        | st.builds(deque, st.lists(inside, max_size=3), st.just(7))
        | st.sets(HASHABLE, max_size=3)
        | st.frozensets(HASHABLE, max_size=3)
        | st.dictionaries(HASHABLE, inside, max_size=3)
        | st.dictionaries(HASHABLE, inside, max_size=2).map(lambda d: defaultdict(list, d))
        | st.dictionaries(HASHABLE, inside, max_size=2).map(OrderedDict)
    ),
    max_leaves=6,
)
CLASSES = (Phase.WARM, Level.LOW, Marks.A, Point(0, 0))


def types_in(value):
    """Return the types in a nest, whose values compare equal across types."""
    if isinstance(value, dict):
        return type(value), [(types_in(k), types_in(v)) for k, v in value.items()]
    if isinstance(value, list | tuple | deque):
        return type(value), [types_in(item) for item in value]
    if isinstance(value, set | frozenset):
        return type(value), {repr(item) for item in value}
    return type(value)


@settings(max_examples=40, deadline=None)
@given(value=VALUES)
def test_any_nest_of_values(value):
    """It is restored with its types, where the script's own value names the classes."""
    callback = Own(value=(*CLASSES, 0))
    held = begun(callback)
    callback.value = (*CLASSES, value)
    new = resumed(held, Own(value=(*CLASSES, 0)))
    assert new.value == callback.value
    kept = isinstance(value, defaultdict)  # only the script has a factory
    assert kept or types_in(new.value) == types_in(callback.value) or "defaultdict" in repr(value)


def test_containers_of_the_script():
    """A deque keeps the script's limit, a defaultdict its factory, at any depth."""
    callback = Own(last=deque(maxlen=3), table={"a": defaultdict(list)})
    held = begun(callback)
    callback.last.extend(range(5))
    callback.table["a"]["x"].append(1)
    new = resumed(held, Own(last=deque(maxlen=2), table={"a": defaultdict(list)}))
    assert (new.last, new.last.maxlen) == (deque([3, 4]), 2)
    new.table["a"]["y"].append(2)
    assert new.table == {"a": {"x": [1], "y": [2]}}


def test_fields_of_objects():
    """What training has changed of them is set on the script's own; the rest is configuration."""
    callback = Own(tracker=Tracker(), plain=Plain())
    held = begun(callback)
    callback.tracker.best = 0.5
    callback.tracker.seen.append(1)
    callback.plain.count = 2
    callback.plain.inner.best = 0.25
    advanced(callback.plain.rng, 3)
    saved = stored(held)[0]["state"]
    assert {"tracker.best", "plain.inner.best", "plain.rng"} <= saved.keys()
    tracker, plain = Tracker(limit=9), Plain()
    new = resumed(held, Own(tracker=tracker, plain=plain))
    assert new.tracker is tracker
    assert (tracker.best, tracker.limit, tracker.seen) == (0.5, 9, [1])
    assert (plain.count, plain.inner.best) == (2, 0.25)
    assert draws(plain.rng) == draws(callback.plain.rng)


DEFAULT = Best()


def test_a_frozen_object_is_replaced():
    """Training has replaced it; the script's own one, which others may share, does not change."""
    callback = Own(best=DEFAULT)
    held = begun(callback)
    callback.best = Best(3, (1, 2))
    new = resumed(held, Own(best=DEFAULT))
    assert new.best == Best(3, (1, 2))
    assert Best() == DEFAULT


def test_a_callback_inside_another():
    """A wrapper's inner callback keeps its state; Keras' own attributes of it do not count."""
    inner = keras.callbacks.EarlyStopping("loss")
    held = begun(Own(inner=inner))
    inner.set_params({"epochs": 3})
    inner.on_train_begin()
    inner.wait = 4
    new = resumed(held, Own(inner=keras.callbacks.EarlyStopping("loss")))
    assert new.inner.wait == 4
    assert new.inner.params is None


def dense(units=2):
    """Return a small built model."""
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(units)])


def filled(owner, value):
    """Set all variables of an object to a value, and return the object."""
    for variable in getattr(owner, "variables", [owner]):
        variable.assign(tf.cast(tf.fill(variable.shape, value), variable.dtype))
    return owner


def built_optimizer():
    """Return an optimizer with its slots."""
    optimizer = keras.optimizers.Adam()
    optimizer.build(dense().trainable_variables)
    return optimizer


VARIABLES = {
    "model": dense,
    "layer": lambda: dense().layers[0],
    "metric": lambda: keras.metrics.Mean(),
    "optimizer": built_optimizer,
    "keras.Variable": lambda: keras.Variable(np.zeros(3)),
    "tf.Variable": lambda: tf.Variable([1, 2]),
}


def numbers(owner):
    """Return all variables of an object as lists."""
    variables = getattr(owner, "variables", [owner])
    return [np.asarray(variable).tolist() for variable in variables]


@pytest.mark.parametrize("make", VARIABLES.values(), ids=VARIABLES)
def test_variables(make, logged):
    """All variables of an object in a callback are kept, once training has changed one."""
    callback = Own(one=make(), several={"a": make()})
    held = begun(callback)
    assert stored(held)[0]["state"] == {}
    filled(callback.one, 3)
    new = resumed(held, Own(one=filled(make(), 1), several={"a": make()}))
    assert numbers(new.one) == numbers(callback.one)
    assert stored(held)[0]["state"].keys() == {"one"}
    assert logged == []


def test_variables_are_captured():
    """What training changes after the capture is in the next one."""
    callback = Own(ema=dense())
    held = begun(callback)
    filled(callback.ema, 1)
    frozen = held.capture()
    filled(callback.ema, 2)
    arrays = {}
    frozen.encode(arrays, held)
    assert [array.max() for array in arrays.values()] == [1, 1]


def test_the_trained_model_costs_nothing(logged):
    """Its variables are in the checkpoint already; so are those of its layers and optimizer."""
    model = dense()
    model.compile("sgd")
    callback = Own(net=model, parts=[model, model.layers[-1]], opt=model.optimizer, head=None)
    held = begun(callback, model)
    model.optimizer.build(model.trainable_variables)
    callback.head = model.layers[-1]
    filled(model, 2)
    saved = stored(held)
    assert saved[0]["state"] == {}
    assert logged == []


def test_a_model_that_shares_layers_with_the_trained_one():
    """Only its own variables are kept, and only those are restored."""

    def head(model):
        return Own(both=keras.Sequential([model, keras.layers.Dense(1)]))

    model, other = dense(), dense()
    callback = head(model)
    callback.both.build((None, 2))
    held = begun(callback, model)
    filled(callback.both, 3)
    filled(other, 7)
    new = head(other)
    new.both.build((None, 2))
    resumed(held, new, other)
    assert numbers(new.both.layers[-1]) == numbers(callback.both.layers[-1])
    assert numbers(other) == numbers(filled(dense(), 7))


class Opaque:
    """An object with a lock, of which nothing can be kept."""

    def __init__(self):
        self.lock, self.count = threading.Lock(), 0


MADE = {
    "model": dense,
    "phase": lambda: Phase.MAIN,
    "object": Tracker,
    "tuple": lambda: Point(1, 2),
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_what_training_makes_of_the_script(make, logged):
    """No store can make it again, so it is named, with the way out."""
    callback = Own(thing=None, count=0)
    held = begun(callback)
    callback.thing, callback.count = make(), 1
    assert stored(held)[0]["state"] == {"count": 1}
    (entry,) = logged
    assert entry["attributes"] == ["thing"]
    assert "on_train_begin" in entry["fix"]


def test_what_is_named(logged):
    """Attribute, kind and way out stand in one line; of an object, the part that is the reason."""
    callback = Own(lock=threading.Lock(), thing=Opaque(), steps=(i for i in range(3)), count=0)
    held = begun(callback)
    callback.thing.count = callback.count = 1
    assert stored(held)[0]["state"] == {"count": 1}
    stored(held)
    (entry,) = logged
    assert entry["event"] == events.STATE_UNKNOWN
    assert dict(zip(entry["attributes"], entry["kinds"], strict=True)) == {
        "lock": "lock",
        "thing.lock": "lock",
        "steps": "generator",
    }
    assert "get_state()" in entry["fix"]


def test_what_is_no_state(logged):
    """Code and objects that don't change cause no warning, and nothing is stored."""
    callback = Own(
        function=len,
        partial=functools.partial(int, base=2),
        module=np,
        kind=Tracker,
        log=logging.getLogger("x"),
        pattern=re.compile("a"),
        loss=keras.losses.MeanSquaredError(),
        schedule=keras.optimizers.schedules.CosineDecay(0.1, 10),
        initializer=keras.initializers.Zeros(),
        policy=keras.DTypePolicy("float32"),
        compiled=tf.function(lambda x: x),
        strategy=tf.distribute.get_strategy(),
        hooks=[len, print],
        event=Phase.WARM,
    )
    held = begun(callback)
    callback.later = callback.on_epoch_end
    assert stored(held)[0]["state"] == {}
    assert logged == []


def test_metrics_and_callable_objects_are_state(logged):
    """An object of a class with `__call__` is no function: what it counts is kept."""

    class Counter:
        def __init__(self):
            self.calls = 0

        def __call__(self):
            self.calls += 1

    callback = Own(counter=Counter())
    held = begun(callback)
    callback.counter()
    assert resumed(held, Own(counter=Counter())).counter.calls == 1
    assert logged == []


def test_aliases_and_cycles(logged):
    """An object that is met again is kept once; a reference to the callback is no object."""
    tracker = Tracker()
    callback = Own(a=tracker, b=Plain())
    callback.b.inner = tracker
    callback.b.count = callback
    held = begun(callback)
    tracker.best = 1.0
    new = Own(a=Tracker(), b=Plain())
    new.b.inner, new.b.count = new.a, new
    resumed(held, new)
    assert new.b.inner.best == 1.0
    assert logged == []


def test_another_class_in_the_next_attempt(logged):
    """The script has changed: nothing is restored, and the reason is said."""
    callback = Own(thing=Tracker(), count=0)
    held = begun(callback)
    callback.thing.best, callback.count = 1.0, 3
    new = Own(thing=Plain(), count=0)
    with pytest.raises(Refused):
        resumed(held, new)
    assert new.count == 0
    assert "Plain now" in logged[-1]["reason"]


def test_another_model_in_the_next_attempt(logged):
    """Its variables don't fit, so none is set."""
    callback = Own(count=0, ema=dense(2))
    held = begun(callback)
    filled(callback.ema, 1)
    callback.count = 3
    new = Own(count=0, ema=dense(3))
    with pytest.raises(Refused):
        resumed(held, new)
    assert new.count == 0
    assert "variables" in logged[-1]["reason"]


def pcg(**changes):
    """Return the state of a PCG64 with changes."""
    state = np.random.default_rng(0).bit_generator.state
    return {**state, **changes}


def mersenne(**changes):
    """Return the state of a Mersenne twister with changes to its inner part."""
    state = np.random.MT19937(0).state
    return {**state, "state": {**state["state"], **changes}}


WORDS = np.zeros(625, np.uint32)
FORGED = {
    "kind": Tagged("os.system", "echo"),
    "no kind": Tagged("", None),
    "bit generator": Tagged("Generator", pcg(bit_generator="system")),
    "unhashable": Tagged("Generator", pcg(bit_generator=[])),
    "state": Tagged("Generator", pcg(state={"state": -1, "inc": 1})),
    "large": Tagged("Generator", pcg(state={"state": 1 << 200, "inc": 1})),
    "flag": Tagged("BitGenerator", pcg(has_uint32=7)),
    "field": Tagged("Generator", pcg(more=1)),
    "position": Tagged("BitGenerator", mersenne(pos=100_000)),
    "negative position": Tagged("BitGenerator", mersenne(pos=-1)),
    "key": Tagged("BitGenerator", mersenne(key=np.zeros(3, np.uint32))),
    "legacy": Tagged("RandomState", pcg()),
    "philox": Tagged("BitGenerator", {**np.random.Philox(0).state, "buffer_pos": 99}),
    "generator": Tagged("Generator", 5),
    "words": Tagged("Random", (3, [1] * 625, None)),
    "few words": Tagged("Random", (3, WORDS[:5], None)),
    "version": Tagged("Random", ("x", WORDS, None)),
    "gauss": Tagged("Random", (3, WORDS, "x")),
    "python": Tagged("Random", None),
    "variables": Tagged("variables", {"specs": ["float32[9]"], "values": [np.zeros(1, "f4")]}),
    "more": Tagged("variables", {"specs": [], "values": [np.zeros(1)]}),
    "no array": Tagged("variables", {"specs": ["float32[]"], "values": [1.0]}),
    "specs": Tagged("variables", {"specs": [1], "values": [1]}),
    "enum": Tagged("enum", ("Phase", 5)),
    "member": Tagged("enum", "MAIN"),
    "flags": Tagged("flag", ("Marks", "A")),
    "items": Tagged("namedtuple", ("Point", [1, 2])),
    "inside": [{"a": (Tagged("namedtuple", ("Point", (Tagged("x", 1),))),)}],
    "code": Tagged("code", "import os"),
    "object": Tagged("object", ["Tracker"]),
    "tensor": Tagged("tensor", "x"),
}


@pytest.mark.parametrize("value", FORGED.values(), ids=FORGED)
def test_forged_values(value):
    """They are found before anything is restored."""
    adapter = ChangedAttributesAdapter(Own(value=0))
    with pytest.raises(InvalidState):
        adapter.check(Own(value=0), {"value": value})


TAG = Tagged("object", "Tracker")
NAMES = {
    "no object": {"tracker.best": 1.0},
    "no tag": {"tracker": 5, "tracker.best": 1.0},
    "class": {"tracker": TAG, "tracker.__class__": 1},
    "method": {"tracker": TAG, "tracker.__init__": 1},
    "of Keras": {"on_epoch_end": TAG, "on_epoch_end.x": 1},
    "model": {"_model": TAG, "_model.x": 1},
    "empty": {"tracker": TAG, "tracker.": 1},
    "deep": {"tracker": TAG, "tracker.seen.x": 1},
    "property": {"plain": Tagged("object", "Plain"), "plain.inner.best": 1},
}


@pytest.mark.parametrize("state", NAMES.values(), ids=NAMES)
def test_forged_names(state):
    """Only fields of objects that the state names can be set, and no methods."""
    callback = Own(tracker=Tracker(), plain=Plain())
    with pytest.raises(InvalidState):
        ChangedAttributesAdapter(callback).check(callback, state)


UNFITTING = {
    "member": {"phase": Tagged("enum", ("Phase", "NONE"))},
    "another class": {"phase": Tagged("enum", ("Level", "LOW"))},
    "flags": {"marks": Tagged("flag", ("Marks", 1 << 70))},
    "point": {"point": Tagged("namedtuple", ("Point", (1, 2, 3)))},
    "code": {"phase": Tagged("code", None)},
    "class": {"tracker": Tagged("object", "Plain")},
    "absent": {"gone": Tagged("object", "Tracker"), "gone.best": 1},
    "variables": {"phase": Tagged("variables", {"specs": [], "values": []})},
}


@pytest.mark.parametrize("state", UNFITTING.values(), ids=UNFITTING)
def test_values_that_do_not_fit_the_script(state):
    """Nothing of such a state is set."""
    callback = Own(phase=Phase.WARM, marks=Marks.A, point=Point(0, 0), tracker=Tracker(), count=0)
    adapter = ChangedAttributesAdapter(callback)
    state = {"count": 5, **state}
    adapter.check(callback, state)
    with pytest.raises(InvalidState):
        adapter.set(callback, state)
    assert callback.count == 0


def test_a_state_of_the_first_version():
    """It has no tags: numbers and lists are set as ever."""
    callback = Own(last=deque([1]), when=timedelta(1), count=0)
    adapter = ChangedAttributesAdapter(callback)
    adapter.check(callback, {"count": 3, "seen": [1]})
    adapter.set(callback, {"count": 3, "seen": [1]})
    assert (callback.count, callback.seen) == (3, [1])
