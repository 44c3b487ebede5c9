"""The process's random state: what is drawn after a restore is what was drawn after the capture."""

from __future__ import annotations

import json
import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from keepfit.callbacks.checkpoint.codec import decode, encode
from keepfit.callbacks.training import internals, random_state


@pytest.fixture(autouse=True)
def seeded():
    """Every generator seeded, and TensorFlow's global one not yet in use."""
    keras.utils.set_random_seed(3)
    before, internals.stateful_random_ops.global_generator = internals.global_generator(), None
    yield
    internals.stateful_random_ops.global_generator = before


def through_the_codec(state):
    """As a checkpoint keeps it."""
    arrays = {}
    text = json.dumps(encode(state, "state", arrays))
    kept = {name: array.copy() for name, array in arrays.items()}
    return decode(json.loads(text), kept.__getitem__)


def as_it_is(state):
    return state


def python():
    return random.random(), random.gauss(0, 1), random.sample(range(100), 5)


def numpy():
    return np.random.random(3).tolist(), np.random.normal(), np.random.permutation(9).tolist()


def global_generator():
    return tf.random.get_global_generator().normal([3]).numpy().tolist()


def keras_without_seed():
    return np.array(keras.random.normal((3,))).tolist(), float(keras.random.uniform(()))


def initializers():
    return np.array(keras.layers.Dense(3)(np.ones((1, 2)))).tolist()


# Eager ops keep kernels between draws, in one process: tests/e2e compares them over real ones.
DRAWS = [python, numpy, global_generator, keras_without_seed, initializers]


def new_process(seed):
    """The script has set its seed, and drawn nothing."""
    keras.utils.set_random_seed(seed)
    internals.stateful_random_ops.global_generator = None


@pytest.mark.parametrize("kept", [as_it_is, through_the_codec])
@pytest.mark.parametrize("draw", DRAWS)
def test_draws_are_repeated(draw, kept):
    """For each generator, in its middle, as in the attempt before."""
    draw()
    state = kept(random_state.capture_random_state())
    expected = [draw(), draw()]
    assert expected[0] != expected[1]
    new_process(3)
    draw()
    random_state.restore_random_state(state)
    assert [draw(), draw()] == expected


@pytest.mark.parametrize("draw", DRAWS)
def test_draws_before_the_restore(draw):
    """It doesn't matter how much the new process has drawn until then."""
    draw()
    state = random_state.capture_random_state()
    expected = [draw(), draw()]
    new_process(3)
    for _ in range(4):
        draw()
    random_state.restore_random_state(state)
    assert [draw(), draw()] == expected


def test_half_of_a_pair():
    """NumPy and Python draw normal numbers in pairs and keep the second: that is state, too."""
    np.random.normal()
    random.gauss(0, 1)
    state = through_the_codec(random_state.capture_random_state())
    expected = np.random.normal(), random.gauss(0, 1)
    random_state.restore_random_state(state)
    assert (np.random.normal(), random.gauss(0, 1)) == expected


def test_new_process():
    """What the old process had used and the new one not yet is made; its seeds don't matter."""
    global_generator()
    keras_without_seed()
    state = through_the_codec(random_state.capture_random_state())
    expected = [draw() for draw in DRAWS]
    new_process(99)
    random_state.restore_random_state(state)
    assert [draw() for draw in DRAWS] == expected


def test_capture_draws_nothing():
    """A training that is saved draws what one that isn't saved draws."""
    expected = [draw() for draw in DRAWS]
    keras.utils.set_random_seed(3)
    internals.stateful_random_ops.global_generator = None
    found = []
    for draw in DRAWS:
        random_state.capture_random_state()
        found.append(draw())
    found[2] = expected[2]
    assert found == expected
    assert random_state.capture_random_state()["tensorflow"] is not None


def test_unused_generators_stay_unused():
    """Neither capture nor restore makes a generator that the script does not use."""
    state = random_state.capture_random_state()
    assert state["tensorflow"] is None
    assert state["keras"] is None
    random_state.restore_random_state(state)
    assert internals.global_generator() is None
    assert internals.global_seed_variable() is None


def test_captured_state_is_a_copy():
    """Later draws don't change it."""
    keras_without_seed()
    global_generator()
    state = random_state.capture_random_state()
    arrays = {}
    before = encode(state, "", arrays)
    copies = {name: array.copy() for name, array in arrays.items()}
    for draw in DRAWS:
        draw()
    arrays = {}
    assert encode(state, "", arrays) == before
    assert all(np.array_equal(arrays[name], copy) for name, copy in copies.items())


def test_script_that_sets_no_seed_any_more():
    """The other generators are restored; TensorFlow's ops are random then."""
    state = random_state.capture_random_state()
    expected = python(), numpy()
    context = internals.context.context()
    seed, rng = context._seed, context._rng
    try:
        context._seed = None
        del context._rng
        random_state.restore_random_state(state)
        assert (python(), numpy()) == expected
    finally:
        context._seed, context._rng = seed, rng


def test_eager_ops_that_have_run_before():
    """Their kernels keep a state of their own, which goes back with the seeds."""
    tf.random.set_seed(3)
    tf.random.normal([])
    saved = random_state.capture_random_state()
    expected = [float(tf.random.normal([])), float(tf.random.uniform([]))]
    random_state.restore_random_state(saved)
    assert [float(tf.random.normal([])), float(tf.random.uniform([]))] == expected
