"""The process's random state: draws after a restore equal the draws after the capture."""

from __future__ import annotations

import json
import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from keepfit.callbacks.checkpoint.format.codec import decode, encode
from keepfit.callbacks.training import internals, random_state
from keepfit.callbacks.training.internals import randomness
from tests.training.trainings import set_seed


@pytest.fixture(autouse=True)
def seeded():
    """Seed every generator, with TensorFlow's global generator not yet in use."""
    set_seed(3)
    before, randomness.stateful_random_ops.global_generator = internals.global_generator(), None
    yield
    randomness.stateful_random_ops.global_generator = before


def through_the_codec(state):
    """Return the state as a checkpoint restores it."""
    arrays = {}
    text = json.dumps(encode(state, "state", arrays))
    copies = {name: array.copy() for name, array in arrays.items()}
    return decode(json.loads(text), copies.__getitem__)


def unchanged(state):
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
    """Set the state of a new process: the script has set its seed and drawn nothing."""
    set_seed(seed)
    randomness.stateful_random_ops.global_generator = None


@pytest.mark.parametrize("store", [unchanged, through_the_codec])
@pytest.mark.parametrize("draw", DRAWS)
def test_draws_are_repeated(draw, store):
    """Each generator, in mid-sequence, repeats the draws of the previous attempt."""
    draw()
    state = store(random_state.capture_random_state())
    expected = [draw(), draw()]
    assert expected[0] != expected[1]
    new_process(3)
    draw()
    random_state.restore_random_state(state)
    assert [draw(), draw()] == expected


@pytest.mark.parametrize("draw", DRAWS)
def test_draws_before_the_restore(draw):
    """Draws of the new process before the restore have no effect after it."""
    draw()
    state = random_state.capture_random_state()
    expected = [draw(), draw()]
    new_process(3)
    for _ in range(4):
        draw()
    random_state.restore_random_state(state)
    assert [draw(), draw()] == expected


def test_second_number_of_a_pair():
    """NumPy and Python draw normal numbers in pairs and keep the second, which is state, too."""
    np.random.normal()
    random.gauss(0, 1)
    state = through_the_codec(random_state.capture_random_state())
    expected = np.random.normal(), random.gauss(0, 1)
    random_state.restore_random_state(state)
    assert (np.random.normal(), random.gauss(0, 1)) == expected


def test_new_process():
    """Generators that only the old process had used are created; the new seeds don't matter."""
    global_generator()
    keras_without_seed()
    state = through_the_codec(random_state.capture_random_state())
    expected = [draw() for draw in DRAWS]
    new_process(99)
    random_state.restore_random_state(state)
    assert [draw() for draw in DRAWS] == expected


def test_capture_draws_nothing():
    """Capturing the state does not change the draws that follow."""
    expected = [draw() for draw in DRAWS]
    set_seed(3)
    randomness.stateful_random_ops.global_generator = None
    drawn = []
    for draw in DRAWS:
        random_state.capture_random_state()
        drawn.append(draw())
    drawn[2] = expected[2]
    assert drawn == expected
    assert random_state.capture_random_state()["tensorflow"] is not None


def test_unused_generators_stay_unused():
    """Neither capture nor restore creates a generator that the script does not use."""
    state = random_state.capture_random_state()
    assert state["tensorflow"] is None
    assert state["keras"] is None
    random_state.restore_random_state(state)
    assert internals.global_generator() is None
    assert internals.global_seed_variable() is None


def test_captured_state_is_a_copy():
    """Later draws don't change a captured state."""
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


def test_script_that_no_longer_sets_a_seed():
    """The other generators are restored; TensorFlow's ops are random in that case."""
    state = random_state.capture_random_state()
    expected = python(), numpy()
    context = randomness.context.context()
    seed, rng = context._seed, context._rng
    try:
        context._seed = None
        del context._rng
        random_state.restore_random_state(state)
        assert (python(), numpy()) == expected
    finally:
        context._seed, context._rng = seed, rng


def test_eager_ops_that_have_run_before():
    """Kernels of eager ops have a state of their own, which is reset with the seeds."""
    tf.random.set_seed(3)
    tf.random.normal([])
    saved = random_state.capture_random_state()
    expected = [float(tf.random.normal([])), float(tf.random.uniform([]))]
    random_state.restore_random_state(saved)
    assert [float(tf.random.normal([])), float(tf.random.uniform([]))] == expected


def test_words_of_the_generators_are_arrays():
    """Nothing encodes them number by number: the rest of the state is small."""
    tf.random.set_seed(3)
    arrays = {}
    text = json.dumps(encode(random_state.capture_random_state(), "state", arrays))
    assert len(text) < 1000
    words = [array for array in arrays.values() if array.size >= 624]
    assert len(words) == 3
    assert {array.dtype.name for array in words} == {"uint32"}


def test_state_of_the_first_version():
    """0.1.0 has stored Python's generators as tuples of numbers, which are restored."""
    tf.random.set_seed(3)
    first = {
        **random_state.capture_random_state(),
        "python": random.getstate(),
        "eager_seeds": internals.eager_seed_state(),
    }
    expected = python(), numpy(), float(tf.random.uniform([]))
    random_state.restore_random_state(first)
    assert (python(), numpy(), float(tf.random.uniform([]))) == expected
