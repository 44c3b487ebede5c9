"""Resumable in a real `fit`: after a notice at any moment, the next attempt ends the same."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest

from keepfit.callbacks import events
from keepfit.callbacks.engine import preemption
from keepfit.callbacks.engine.preemption import Notice
from keepfit.callbacks.errors import Preempted
from tests.rotation import marks_of
from tests.training.trainings import (
    BATCH,
    BATCHES,
    SEED,
    USUAL,
    Failing,
    Outcome,
    ScriptError,
    Training,
    assert_same,
    attempt,
    callbacks,
    classifier,
    endless,
    fitted,
    from_arrays,
    generated,
    mapped,
    of_unknown_length,
    preempted,
    process,
    resumable,
    set_seed,
    shuffled,
    small,
    twice_as_long,
    twice_shuffled,
    unbuilt,
    usual,
    whole,
)

MOMENTS = {
    "before the first batch": ("on_train_batch_begin", 1),
    "before anything": ("on_train_begin", 1),
    "first batch": ("on_train_batch_end", 1),
    "mid-epoch": ("on_train_batch_end", 3),
    "last batch of an epoch": ("on_train_batch_end", BATCHES),
    "first validation batch": ("on_test_batch_end", 1),
    "last validation batch": ("on_test_batch_end", 3),
    "end of validation": ("on_test_end", 1),
    "epoch end": ("on_epoch_end", 1),
    "epoch begin": ("on_epoch_begin", 2),
    "first batch of a later epoch": ("on_train_batch_begin", BATCHES + 1),
    "last epoch's end": ("on_epoch_end", 3),
    "end of training": ("on_train_end", 1),
}


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_notice_at_any_moment(tmp_path, moment):
    """The attempt exits with code 75, and the next one ends as if it had not been interrupted."""
    preempted(USUAL, tmp_path, *moment)
    assert_same(attempt(USUAL, tmp_path), usual())


def test_repeated_notices(tmp_path):
    """Each attempt gets two batches further, and the last one ends as if nothing had happened."""
    for _ in range(4):
        preempted(USUAL, tmp_path, "on_train_batch_end", 2)
    assert_same(attempt(USUAL, tmp_path), usual())


def test_resumable_changes_nothing(tmp_path):
    """A training that saves after every batch equals the training without Resumable."""
    training = Training(model=classifier, held=callbacks)
    assert_same(attempt(training, tmp_path, save_every="1 batch"), whole(training))


INPUTS = {
    "unknown length": Training(held=callbacks, data=of_unknown_length),
    "mapped": Training(held=callbacks, data=mapped),
    "shuffled twice": Training(held=callbacks, data=twice_shuffled),
    "a pass over the data in two epochs": Training(
        held=callbacks,
        data=twice_as_long,
        fit={"epochs": 5, "steps_per_epoch": 5},
    ),
    "longer epochs than the data": Training(
        held=callbacks, data=shuffled, fit={"epochs": 3, "steps_per_epoch": 5}
    ),
    "endless": Training(held=callbacks, data=endless, fit={"epochs": 3, "steps_per_epoch": 4}),
    "generator": Training(held=callbacks, data=generated),
    "arrays": Training(model=classifier, held=callbacks, data=from_arrays),
}
BY_NOTICE = [pytest.param(name, marks=marks_of(n, days=2)) for n, name in enumerate(INPUTS)]
BY_ERROR = [pytest.param(name, marks=marks_of(n + 1, days=2)) for n, name in enumerate(INPUTS)]
"""Each day, a notice interrupts one half of the inputs, and an error the other half."""


@functools.cache
def whole_with(name: str) -> Outcome:
    """Return the outcome of the training with an input, never interrupted; computed once."""
    return whole(INPUTS[name])


@pytest.mark.parametrize("name", BY_NOTICE)
def test_notice_for_every_kind_of_input(tmp_path, name):
    """Interrupted mid-epoch and between epochs, each kind of input resumes where it was."""
    training = INPUTS[name]
    for moment in [
        ("on_train_batch_end", 3),
        ("on_test_batch_end", 2),
        ("on_train_batch_end", 1),
        ("on_epoch_end", 1),
        ("on_train_batch_end", 1),
    ]:
        preempted(training, tmp_path, *moment)
    assert_same(attempt(training, tmp_path), whole_with(name))


@pytest.mark.parametrize("name", BY_ERROR)
def test_saved_after_every_batch(tmp_path, name):
    """The last save before an error is as exact as a save at a notice: training resumes from it."""
    training = INPUTS[name]
    for hook, number in [("on_train_batch_end", 8), ("on_test_batch_end", 3), ("on_epoch_end", 1)]:
        with pytest.raises(ScriptError):
            attempt(training, tmp_path, Failing(hook, number), save_every="1 batch")
    assert_same(attempt(training, tmp_path, save_every="1 batch"), whole_with(name))


def test_validation_after_data_of_unknown_length(tmp_path):
    """The call of the train function that found no data isn't repeated on resume."""
    training = INPUTS["unknown length"]
    preempted(training, tmp_path, "on_test_batch_end", 2)
    assert_same(attempt(training, tmp_path), whole_with("unknown length"))


def test_model_that_is_not_built_yet(tmp_path):
    """The variables of the model and its optimizer are created before they are restored."""
    training = Training(model=lambda: unbuilt(keras.optimizers.Adam(0.01)))
    preempted(training, tmp_path, "on_train_batch_end", 7)
    assert_same(attempt(training, tmp_path), whole(training))


def test_notice_before_fit(tmp_path):
    """A notice from before the training ends it at once, and nothing is lost."""
    with process():
        set_seed(SEED)
        preemption.current().give_notice(Notice("test"))
        model, held = small(), callbacks()
        with pytest.raises(Preempted):
            fitted(USUAL, model, [resumable(tmp_path, held)])
    assert_same(attempt(USUAL, tmp_path), usual())


def test_several_steps_per_execution(tmp_path):
    """With hooks at every fourth batch only, and a shorter last call, no batch is lost."""
    training = Training(model=lambda: small(steps_per_execution=4), held=callbacks)
    expected = whole(training)
    for moment in [("on_train_batch_end", 1), ("on_train_batch_end", 1), ("on_test_end", 1)]:
        preempted(training, tmp_path, *moment)
    assert_same(attempt(training, tmp_path), expected)


def test_run_eagerly(tmp_path):
    """A model that runs eagerly, and isn't built yet, resumes, too."""
    training = Training(model=lambda: unbuilt(run_eagerly=True), held=callbacks, fit={"epochs": 2})
    preempted(training, tmp_path, "on_train_batch_end", 3)
    preempted(training, tmp_path, "on_train_batch_end", 4)
    assert_same(attempt(training, tmp_path), whole(training))


def test_validation_freq(tmp_path):
    """validation_freq counts the epochs of the whole run, not those of the attempt."""
    training = Training(held=callbacks, fit={"epochs": 4, "validation_freq": 2})
    preempted(training, tmp_path, "on_epoch_end", 1)
    preempted(training, tmp_path, "on_test_batch_end", 1)
    resumed = attempt(training, tmp_path)
    assert_same(resumed, whole(training))
    assert len(resumed.history["val_loss"]) == 2


def test_initial_epoch(tmp_path):
    """fit's initial_epoch applies until there is a checkpoint; then its later epoch applies."""
    training = Training(held=callbacks, fit={"epochs": 5, "initial_epoch": 2})
    preempted(training, tmp_path, "on_train_batch_end", 2)
    preempted(training, tmp_path, "on_epoch_end", 1)
    resumed = attempt(training, tmp_path)
    assert_same(resumed, whole(training))
    assert resumed.epochs == [2, 3, 4]


def test_stop_in_mid_epoch(tmp_path):
    """A stop_training that a callback set before the interruption is in force after resume."""

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                self.model.stop_training = True

    training = Training(held=lambda: [Stop()])
    preempted(training, tmp_path, "on_train_batch_end", 3)
    preempted(training, tmp_path, "on_test_batch_end", 1)
    resumed = attempt(training, tmp_path)
    assert_same(resumed, whole(training))
    assert resumed.epochs == [0]


def test_multiplicative_schedule(tmp_path):
    """A learning rate that depends on itself isn't reduced again for the interrupted epoch."""
    training = Training(
        held=lambda: [keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)]
    )
    preempted(training, tmp_path, "on_train_batch_end", 3)
    preempted(training, tmp_path, "on_test_batch_end", 1)
    preempted(training, tmp_path, "on_epoch_end", 1)
    assert_same(attempt(training, tmp_path), whole(training))


@pytest.mark.parametrize("each_epoch", [False, True])
def test_averaged_weights(tmp_path, each_epoch):
    """After resume, SwapEMAWeights swaps averages in for validation and out for training."""
    training = Training(
        model=lambda: small(keras.optimizers.SGD(0.05, use_ema=True, ema_overwrite_frequency=None)),
        held=lambda: [keras.callbacks.SwapEMAWeights(swap_on_epoch=each_epoch)],
    )
    preempted(training, tmp_path, "on_train_batch_end", 3)
    preempted(training, tmp_path, "on_test_batch_end", 2)
    preempted(training, tmp_path, "on_epoch_end", 1)
    preempted(training, tmp_path, "on_train_batch_end", 1)
    assert_same(attempt(training, tmp_path), whole(training))


class PerEpoch(keras.callbacks.Callback):
    """A callback like many others: it remembers the epoch, and keeps a table by epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.table = {**getattr(self, "table", {}), (self.epoch, batch): logs["loss"]}


def test_attribute_of_the_epoch(tmp_path):
    """An attribute that a callback set at an epoch's start is restored for the batches after it."""
    training = Training(held=lambda: [PerEpoch()])
    preempted(training, tmp_path, "on_train_batch_end", 2)
    preempted(training, tmp_path, "on_train_batch_end", 5)
    assert_same(attempt(training, tmp_path), whole(training))


def test_batches_of_a_last_call_are_counted(tmp_path):
    """Keras names the last batch of a whole call, also where the data end before it."""
    model = small()
    model.compile("sgd", "mse", steps_per_execution=5)
    x = np.ones((23 * BATCH, 4), "float32")
    with process() as logs:
        held = [resumable(tmp_path, [], save_every="1 epoch")]
        model.fit(x, x[:, :3], batch_size=BATCH, epochs=2, verbose=0, callbacks=held)
    saved = [(log["batch"], log["step"]) for log in logs if log["event"] == events.SAVED]
    assert saved[-1] == (23, 46)
