"""The digest of an input's content: the same in another process, another for any change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given as examples
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from keepfit.callbacks.training.identity.hashing import BLOCK, ContentHash
from keepfit.callbacks.training.identity.inputs import FitInput, content_digest
from tests.e2e.process import ROOT
from tests.training.inputs import KINDS, UNKNOWN, Indexed, content, given, rows, xy


@pytest.fixture(scope="module")
def elsewhere():
    """Digests of two other processes, one of which has made other datasets before."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.training.inputs", before],
            cwd=ROOT,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONHASHSEED": before},
            stdout=subprocess.PIPE,
            text=True,
        )
        for before in ("0", "3")
    ]
    printed = [process.communicate()[0] for process in processes]
    return [json.loads(text.splitlines()[-1]) for text in printed]


@pytest.mark.parametrize("kind", [*KINDS, *UNKNOWN])
def test_equal_in_other_processes(elsewhere, kind):
    """Three processes agree on each input; the number of datasets before it does not count."""
    own = content(**{**KINDS, **UNKNOWN}[kind](0.0)).digest
    assert own is not None
    assert [digests[kind] for digests in elsewhere] == [own, own]


@pytest.mark.parametrize("kind", KINDS)
def test_one_changed_number(kind):
    """Another number, wherever it stands, is another digest."""
    assert content(**KINDS[kind](0.0)).digest != content(**KINDS[kind](0.25)).digest


def digest(value, *, ordered=True):
    own = ContentHash()
    own.add("value", value, ordered=ordered)
    return own.hexdigest()


arrays = npst.arrays(
    st.sampled_from(["float32", "int64", "uint8", "bool", "U3"]),
    npst.array_shapes(min_dims=1, max_dims=3, max_side=5),
)


@examples(arrays, st.data())
def test_any_changed_element(array, data):
    """Digests are equal exactly for equal bytes, shapes and types."""
    index = tuple(data.draw(st.integers(0, size - 1)) for size in array.shape)
    changed = array.copy()
    changed[index] = data.draw(npst.from_dtype(array.dtype))
    same = changed.tobytes() == array.tobytes()
    assert (digest(changed) == digest(array)) == same
    assert digest(array.copy()) == digest(array)
    assert digest(np.asfortranarray(array)) == digest(array)
    assert digest(array[None]) != digest(array)
    assert digest([array]) != digest(array)


@examples(arrays, st.randoms(use_true_random=False))
def test_rows_without_order(array, random):
    """Where order does not count, each permutation of the rows has the same digest."""
    order = list(range(len(array)))
    random.shuffle(order)
    assert digest(array[order], ordered=False) == digest(array, ordered=False)
    assert digest(list(array[order]), ordered=False) == digest(list(array), ordered=False)


DIFFERENT = {
    "type": (np.zeros(4, "float32"), np.zeros(4, "int32")),
    "shape": (np.zeros((2, 3)), np.zeros((3, 2))),
    "order": ([1, 2], [2, 1]),
    "boundaries of texts": (["ab", "c"], ["a", "bc"]),
    "kind of number": ([1], [True]),
    "key": ({"a": 1}, {"b": 1}),
    "text in an array of objects": (np.array(["a", None], object), np.array(["b", None], object)),
    "late item of a long list": ([0] * 9000, [0] * 8999 + [1]),
    "late item of many objects": (
        np.array(["a"] * 9000, object),
        np.array(["a"] * 8999 + ["b"], object),
    ),
    "sparse indices": (
        tf.SparseTensor([[0, 0]], [1.0], [2, 2]),
        tf.SparseTensor([[0, 1]], [1.0], [2, 2]),
    ),
}


@pytest.mark.parametrize("change", DIFFERENT)
def test_any_other_change(change):
    """Types, shapes, order, keys and boundaries count."""
    before, now = DIFFERENT[change]
    assert digest(before) != digest(now)
    assert digest(before) == digest(before)


def test_arrays_larger_than_a_block():
    """Parts of an array that is not contiguous have the digest of its contiguous copy."""
    array = np.arange(3 * BLOCK // 4, dtype="float32").reshape(3, -1)
    for view in (array[:, ::2], array.T, array[::-1]):
        assert digest(view) == digest(np.ascontiguousarray(view))


def test_a_later_fit_of_a_shuffled_py_dataset():
    """What its hooks change is not its content: an attempt that skips the fit before agrees."""
    fresh, used = Indexed(), Indexed()
    used.on_epoch_end()
    assert content(x=used) == content(x=fresh)
    used.order = used.order[:-1]
    assert content(x=used) != content(x=fresh)
    used = Indexed()
    used.files.reverse()
    assert content(x=used) != content(x=fresh)


def generator():
    while True:
        yield xy()


def test_unknown_content():
    """Generators have none; parts that can't be read are named."""
    signature = (tf.TensorSpec((None, 4)), tf.TensorSpec((None,)))
    from_generator = tf.data.Dataset.from_generator(generator, output_signature=signature)
    for source in (generator(), from_generator):
        unknown = content(x=source, steps_per_epoch=2)
        assert unknown.digest is None
        assert unknown.unknown
    dataset = Indexed()
    dataset.transform = lambda x: x
    assert content(x=dataset).unknown == ("the input.transform (function)",)
    partly = content(x=rows().batch(8), validation_data=generator(), validation_steps=1)
    assert partly.unknown == ("the validation data (generator)",)
    assert content(**KINDS["below a Python function"](0.0)).unknown == (
        "the input: a Python function",
    )
    assert content(**UNKNOWN["a vocabulary"](0.0)).unknown == (
        "the input: a variable or table that a function uses",
    )
    assert content(x=rows().batch(8)).unknown == ()


def test_a_distributed_dataset_has_the_digest_of_its_own():
    """A strategy that distributes the input changes nothing."""
    two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    one = given(x=rows().batch(8))
    distributed = given(two, x=rows().batch(8))
    assert content_digest(distributed) == content_digest(one)
    assert (one.replicas, distributed.replicas) == (1, 2)


def test_nothing_is_changed():
    """A digest draws no random number, and the next fit gets the same order."""
    keras.utils.set_random_seed(3)
    dataset = rows().shuffle(24, seed=1).batch(8)
    py_dataset = Indexed()
    inputs = [given(x=dataset), given(x=py_dataset)]
    before = (np.random.get_state()[1].tobytes(), tf.random.uniform(()).numpy().tobytes())
    state = str(vars(py_dataset))
    keras.utils.set_random_seed(3)
    expected = [batch[0].numpy().tobytes() for batch in rows().shuffle(24, seed=1).batch(8)]
    threads = [threading.Thread(target=content_digest, args=[each]) for each in inputs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = (np.random.get_state()[1].tobytes(), tf.random.uniform(()).numpy().tobytes())
    assert after == before
    assert str(vars(py_dataset)) == state
    assert [batch[0].numpy().tobytes() for batch in dataset] == expected


def test_time_on_the_training_thread():
    """To refer to the input takes a fraction of a millisecond, however large it is."""

    def measure(_):
        for _ in range(20):
            began = time.perf_counter()
            FitInput.current(model)
            seconds.append(time.perf_counter() - began)

    seconds = []
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    hook = keras.callbacks.LambdaCallback(on_train_begin=measure)
    model.fit(np.zeros((1 << 20, 4), "float32"), np.zeros(1 << 20), epochs=0, callbacks=[hook])
    assert min(seconds) < 0.001
