"""Resumable through a real `fit`: a notice at any moment, and the next attempt ends the same."""

from __future__ import annotations

import keras
import pytest

from keepfit.callbacks import session
from keepfit.callbacks.errors import Preempted
from keepfit.callbacks.session import Notice
from tests.training.trainings import (
    BATCHES,
    SEED,
    USUAL,
    Failing,
    Mistake,
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
    """The attempt leaves with code 75, and the next ends as if nothing had happened."""
    preempted(USUAL, tmp_path, *moment)
    assert_same(attempt(USUAL, tmp_path), usual())


def test_notice_after_notice(tmp_path):
    """Every attempt gets one batch done, and the last one ends as if nothing had happened."""
    for _ in range(4):
        preempted(USUAL, tmp_path, "on_train_batch_end", 2)
    assert_same(attempt(USUAL, tmp_path), usual())


def test_resumable_changes_nothing(tmp_path):
    """A training that saves after every batch is the training without Resumable."""
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


@pytest.mark.parametrize("training", INPUTS.values(), ids=INPUTS)
def test_notice_for_every_kind_of_input(tmp_path, training):
    """Interrupted mid-epoch and between epochs, each kind of input goes on where it was."""
    for moment in [
        ("on_train_batch_end", 3),
        ("on_test_batch_end", 2),
        ("on_train_batch_end", 1),
        ("on_epoch_end", 1),
        ("on_train_batch_end", 1),
    ]:
        preempted(training, tmp_path, *moment)
    assert_same(attempt(training, tmp_path), whole(training))


@pytest.mark.parametrize("training", INPUTS.values(), ids=INPUTS)
def test_saved_after_every_batch(tmp_path, training):
    """The last save before an error is as good as one at a notice: training goes on from it."""
    for hook, number in [("on_train_batch_end", 8), ("on_test_batch_end", 3), ("on_epoch_end", 1)]:
        with pytest.raises(Mistake):
            attempt(training, tmp_path, Failing(hook, number), save_every="1 batch")
    assert_same(attempt(training, tmp_path, save_every="1 batch"), whole(training))


def test_validation_after_data_of_unknown_length(tmp_path):
    """The batch that found no data isn't begun a second time."""
    training = INPUTS["unknown length"]
    preempted(training, tmp_path, "on_test_batch_end", 2)
    assert_same(attempt(training, tmp_path), whole(training))


def test_model_that_is_not_built_yet(tmp_path):
    """Its variables, and the optimizer's, are made before they are restored."""
    training = Training(model=lambda: unbuilt(keras.optimizers.Adam(0.01)))
    preempted(training, tmp_path, "on_train_batch_end", 7)
    assert_same(attempt(training, tmp_path), whole(training))


def test_notice_before_fit(tmp_path):
    """A notice from before the training is acted on at once, and nothing is lost."""
    with process():
        keras.utils.set_random_seed(SEED)
        session.current().give_notice(Notice("test"))
        model, held = small(), callbacks()
        with pytest.raises(Preempted):
            fitted(USUAL, model, [resumable(tmp_path, held)])
    assert_same(attempt(USUAL, tmp_path), usual())


def test_several_steps_per_execution(tmp_path):
    """With hooks at every fourth batch only, and a shorter last call, nothing is lost."""
    training = Training(model=lambda: small(steps_per_execution=4), held=callbacks)
    expected = whole(training)
    for moment in [("on_train_batch_end", 1), ("on_train_batch_end", 1), ("on_test_end", 1)]:
        preempted(training, tmp_path, *moment)
    assert_same(attempt(training, tmp_path), expected)


def test_run_eagerly(tmp_path):
    """A model that runs eagerly, and isn't built yet, resumes too."""
    training = Training(model=lambda: unbuilt(run_eagerly=True), held=callbacks, fit={"epochs": 2})
    preempted(training, tmp_path, "on_train_batch_end", 3)
    preempted(training, tmp_path, "on_train_batch_end", 4)
    assert_same(attempt(training, tmp_path), whole(training))


def test_validation_freq(tmp_path):
    """The epochs that are validated are those of the whole run, not of the attempt."""
    training = Training(held=callbacks, fit={"epochs": 4, "validation_freq": 2})
    preempted(training, tmp_path, "on_epoch_end", 1)
    preempted(training, tmp_path, "on_test_batch_end", 1)
    resumed = attempt(training, tmp_path)
    assert_same(resumed, whole(training))
    assert len(resumed.history["val_loss"]) == 2


def test_initial_epoch(tmp_path):
    """The argument of fit counts until there is a checkpoint, which is later."""
    training = Training(held=callbacks, fit={"epochs": 5, "initial_epoch": 2})
    preempted(training, tmp_path, "on_train_batch_end", 2)
    preempted(training, tmp_path, "on_epoch_end", 1)
    resumed = attempt(training, tmp_path)
    assert_same(resumed, whole(training))
    assert resumed.epochs == [2, 3, 4]


def test_stop_in_mid_epoch(tmp_path):
    """A callback that has stopped the training with its last batch has still stopped it."""

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
    """A learning rate that depends on itself isn't reduced again for the epoch under way."""
    training = Training(
        held=lambda: [keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)]
    )
    preempted(training, tmp_path, "on_train_batch_end", 3)
    preempted(training, tmp_path, "on_test_batch_end", 1)
    preempted(training, tmp_path, "on_epoch_end", 1)
    assert_same(attempt(training, tmp_path), whole(training))


@pytest.mark.parametrize("each_epoch", [False, True])
def test_averaged_weights(tmp_path, each_epoch):
    """SwapEMAWeights' averages are swapped in for validation, and out again for training."""
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
    """Does what many do: remembers the epoch, and keeps a table by epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.table = {**getattr(self, "table", {}), (self.epoch, batch): logs["loss"]}


def test_attribute_of_the_epoch(tmp_path):
    """What a callback has set at the epoch's beginning is there for the batches after resume."""
    training = Training(held=lambda: [PerEpoch()])
    preempted(training, tmp_path, "on_train_batch_end", 2)
    preempted(training, tmp_path, "on_train_batch_end", 5)
    assert_same(attempt(training, tmp_path), whole(training))
