"""Validation data that shuffles anew, and data that several fits share, continue exactly."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.format.state_schema import InvalidState
from keepfit.callbacks.errors import Preempted, Refused
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.training.data.fit_inputs import FitInputs
from keepfit.callbacks.training.data.shuffles import Shuffles
from tests.rotation import rotating
from tests.training.trainings import (
    BATCH,
    ROWS,
    SEED,
    GiveNotice,
    Training,
    all_variables,
    arrays,
    assert_same,
    attempt,
    from_arrays,
    generated,
    preempted,
    process,
    resumable,
    set_seed,
    shuffled,
    small,
    whole,
)


@pytest.fixture
def exact(monkeypatch):
    """Set the variable that `keepfit run --exact` sets."""
    monkeypatch.setenv("KEEPFIT_EXACT", "1")


def rows():
    return tf.data.Dataset.from_tensor_slices(arrays(20, 1))


class Reordered(keras.utils.PyDataset):
    """A PyDataset that shuffles itself after each epoch."""

    def __init__(self):
        super().__init__()
        self.x, self.y = arrays(20, 1)
        self.order = np.arange(20)

    def __len__(self):
        return 5

    def __getitem__(self, index):
        chosen = self.order[index * 4 : index * 4 + 4]
        return self.x[chosen], self.y[chosen]

    def on_epoch_end(self):
        np.random.shuffle(self.order)


VALIDATION = {
    "shuffled": lambda: rows().shuffle(20).batch(4),
    "rows and batches": lambda: rows().shuffle(9).batch(4).shuffle(2).prefetch(1),
    "shuffled, cached, cut": lambda: rows().shuffle(20).batch(4).cache(),
    "cached, shuffled": lambda: rows().shuffle(9).cache().shuffle(20).batch(4),
    "indexed": Reordered,
}


def validated(make, data, **fit):
    """Return a training with validation data that this function makes."""
    return Training(
        data=lambda: {**data(), "validation_data": make()},
        validated=False,
        fit={"epochs": 3, "validation_steps": 2, **fit},
    )


MOMENTS = [("on_train_batch_end", 8), ("on_test_batch_end", 3), ("on_epoch_begin", 3)]
"""In the second epoch, in its validation, and before the third."""


@pytest.mark.parametrize("name", rotating(VALIDATION))
def test_validation_continues(tmp_path, name, exact):
    """Each validation sees the batches that it would have seen; --exact does not refuse."""
    data = (lambda: {"x": shuffled()}) if name == "rows and batches" else from_arrays
    training = validated(VALIDATION[name], data)
    expected = whole(training)
    for i, moment in enumerate(MOMENTS):
        preempted(training, tmp_path / str(i), *moment)
        assert_same(attempt(training, tmp_path / str(i)), expected)


def several(folder, make, *moment, **fit):
    """Train one dataset in three fits, as a process does; return all that they have computed."""
    with process() as logs:
        set_seed(SEED)
        model, data, histories = small(), make(), []
        for index in range(3):
            held = [GiveNotice(*moment)] if moment and index == 1 else []
            callbacks = held if folder is None else [resumable(folder, held)]
            more = {"validation_data": data, **fit} if fit else {}
            history = model.fit(data, epochs=2, verbose=0, callbacks=callbacks, **more)
            histories.append(history.history)
    return all_variables(model), histories, [log["event"] for log in logs]


SHARED = {
    "shuffled": (lambda: shuffled().shuffle(3), {}),
    "also for validation": (shuffled, {"validation_freq": 2, "validation_steps": 2}),
    "zipped": (lambda: shuffled_pairs(), {}),
    "indexed": (Reordered, {}),
}


def shuffled_pairs():
    """Return batches of two shuffled datasets, as in contrastive learning."""
    pairs = tf.data.Dataset.zip(shuffled(), rows().shuffle(20).repeat().batch(BATCH))
    return pairs.map(lambda one, other: (one[0][:4] + other[0][:4], one[1][:4]))


@pytest.mark.parametrize("name", rotating(SHARED))
def test_shared_by_fits(tmp_path, name, exact):
    """A resumed attempt that passes over a fit goes on with the dataset where that fit ended."""
    make, fit = SHARED[name]
    variables, histories, _ = several(None, make, **fit)
    with pytest.raises(Preempted):
        several(tmp_path, make, "on_train_batch_end", 3, **fit)
    resumed, repeated, _ = several(tmp_path, make, **fit)
    assert repeated == histories
    assert resumed == variables


CUT = {
    "generator": generated,
    "random map": lambda: rows().batch(4).map(lambda x, y: (x + tf.random.normal([]), y)),
    "Python generator": lambda: (b for b in list(rows().batch(4).as_numpy_iterator()) * 9),
}


@pytest.mark.parametrize("name", rotating(CUT))
def test_validation_that_can_not_be_kept(tmp_path, name, monkeypatch):
    """One warning says so before training; --exact refuses."""
    training = validated(CUT[name], from_arrays, epochs=1)
    done = attempt(training, tmp_path / "warned")
    (entry,) = done.named(events.DATA_UNSAVABLE)
    assert entry["input"] == "validation_data"
    monkeypatch.setenv("KEEPFIT_EXACT", "1")
    with pytest.raises(Refused):
        attempt(training, tmp_path / "refused")


def negative(x, y):
    """Compute the features in Python."""
    return tf.ensure_shape(tf.numpy_function(np.negative, [x], tf.float32), (None, 4)), y


HIDDEN = {
    "below a shuffle": lambda: generated().shuffle(3),
    "in a concatenation": lambda: shuffled().concatenate(generated()),
    "in a map below a shuffle": lambda: shuffled().map(negative).shuffle(2),
}


@pytest.mark.parametrize("name", rotating(HIDDEN))
def test_hidden_python_code(tmp_path, name, exact):
    """Python code that the first state of the iterator does not show is refused before training."""
    trained = []
    seen = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_: trained.append(1))
    training = Training(data=HIDDEN[name], held=lambda: [seen], fit={"epochs": 1})
    with pytest.raises(Refused):
        attempt(training, tmp_path)
    assert trained == []


def test_arrays_are_no_hidden_code(tmp_path, exact):
    """The dataset that Keras builds from arrays shuffles in a function of its own: no alarm."""
    assert attempt(Training(data=from_arrays, fit={"epochs": 1}), tmp_path).epochs == [0]


PARTS = st.sampled_from(["shuffle", "same order", "map", "batch", "cache", "prefetch", "repeat"])


def pipeline(parts):
    """Return a dataset of numbers with these steps."""
    data = tf.data.Dataset.range(ROWS)
    for i, part in enumerate(parts):
        match part:
            case "shuffle":
                data = data.shuffle(7, seed=i)
            case "same order":
                data = data.shuffle(7, seed=i, reshuffle_each_iteration=False)
            case "map":
                data = data.map(lambda x: x + 1)
            case "batch":
                data = data.batch(3).unbatch()
            case "cache":
                data = data.cache()
            case "prefetch":
                data = data.prefetch(2)
            case "repeat":
                data = data.repeat(2).take(ROWS)
    return data


@settings(max_examples=12, deadline=None)
@given(parts=st.lists(PARTS, min_size=1, max_size=5), epochs=st.integers(0, 3))
def test_any_pipeline_continues(parts, epochs):
    """With the counts restored, each later epoch of a pipeline has the order that it had."""
    data = pipeline(parts)
    shuffles = Shuffles(data)
    for _ in range(epochs):
        list(data.as_numpy_iterator())
    counts = shuffles.counts()
    assert shuffles.counts() == counts  # to read them changes nothing
    expected = [list(data.as_numpy_iterator()) for _ in range(2)]
    again = pipeline(parts)
    Shuffles(again).set(counts)
    assert [list(again.as_numpy_iterator()) for _ in range(2)] == expected


FORGED = [{"train": [1.5]}, {"validation": [-1]}, {"other": 1}, {"own": 3}]


@pytest.mark.parametrize("change", FORGED)
def test_a_forged_state_is_rejected(change):
    """A state from a store is checked before any of it is used."""
    inputs = FitInputs(shuffled(), Reordered(), ExactnessGuard())
    state = inputs.capture_final()()
    inputs.check(state)
    inputs.check(None)
    with pytest.raises(InvalidState):
        inputs.check({**state, **change})


def test_a_pipeline_with_other_shuffles():
    """A pipeline that has another number of shuffles than in the checkpoint gets a warning."""
    state = FitInputs(None, VALIDATION["shuffled"](), ExactnessGuard()).capture()()
    changed = FitInputs(None, VALIDATION["rows and batches"](), ExactnessGuard())
    with capture_logs() as logs:
        changed.restore(state)
    (entry,) = logs
    assert entry["event"] == events.DATA_ORDER_UNSAVABLE
    assert "has 2 shuffles, and had 1" in entry["reason"]
