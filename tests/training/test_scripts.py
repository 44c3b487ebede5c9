"""Scripts that finish a fit, change it, fail in it, or call it twice."""

from __future__ import annotations

import functools

import keras
import pytest
import tensorflow as tf

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.commit.claim import claim_run
from keepfit.callbacks.checkpoint.retention import KeepNewest
from keepfit.callbacks.engine import preemption, session
from keepfit.callbacks.engine.preemption import Notice
from keepfit.callbacks.errors import Fenced, Preempted, Refused
from keepfit.callbacks.storage.local import LocalStore
from tests.training import trainings
from tests.training.trainings import (
    BATCH,
    BATCHES,
    SEED,
    USUAL,
    Counter,
    GiveNotice,
    ScriptError,
    Training,
    all_variables,
    arrays,
    assert_same,
    attempt,
    callbacks,
    compiled,
    fitted,
    of_unknown_length,
    outcome,
    preempted,
    process,
    resumable,
    set_seed,
    shuffled,
    small,
    usual,
    whole,
)


def test_no_epochs(tmp_path):
    """A fit of no epochs trains nothing, and the next attempt finds it finished."""
    training = Training(fit={"epochs": 0})
    expected = whole(training)
    assert_same(attempt(training, tmp_path), expected)
    again = attempt(training, tmp_path)
    assert_same(again, expected)
    assert again.named(events.ALREADY_FINISHED)


def test_finished_run_returns_at_once(tmp_path):
    """A finished run restores weights, history and EarlyStopping's attributes without training."""
    early = keras.callbacks.EarlyStopping
    training = Training(
        model=lambda: small(metrics=["accuracy"]),
        held=lambda: [early("accuracy", patience=1, restore_best_weights=True), Counter()],
        fit={"epochs": 6},
    )
    first = attempt(training, tmp_path)
    again = attempt(training, tmp_path)
    assert_same(again, first)
    assert_same(again, whole(training))
    assert again.held[0].stopped_epoch == first.held[0].stopped_epoch > 0
    assert not [log for log in again.logs if log["event"] == events.SAVED]
    (line,) = again.named(events.MORE_EPOCHS)
    assert "EarlyStopping has stopped the run in epoch 3, and would do so again" in line["reason"]


def test_more_epochs_for_a_finished_run(tmp_path):
    """A finished run trains on to more epochs, and the log says so."""
    training = Training()
    attempt(training, tmp_path)
    again = attempt(training, tmp_path, epochs=5)
    assert_same(again, whole(training, epochs=5))
    assert again.named(events.MORE_EPOCHS)


@pytest.mark.parametrize("moment", [("on_train_batch_end", 12), ("on_epoch_end", 2)])
def test_fewer_epochs_than_have_been_done(tmp_path, moment):
    """With fewer epochs than done, fit returns the trained weights and their history."""
    preempted(USUAL, tmp_path, *moment)
    shorter = attempt(USUAL, tmp_path, epochs=2)
    assert shorter.history["loss"] == usual().history["loss"][:2]
    assert int(shorter.model.optimizer.iterations) >= 2 * BATCHES
    with process():
        assert fitted(USUAL, shorter.model, [], epochs=1).epoch == [0], "the model can train on"


class TwoFits:
    """A script with two fits of one model."""

    def __init__(self, data=shuffled, same=True):
        self.data, self.same = data, same

    def __call__(self, folder, *notices):
        set_seed(SEED)
        model, counter = small(), Counter()
        data = self.data()
        held = [counter, *notices]
        first = resumable(folder, held) if folder else None
        second = first if self.same or not folder else resumable(folder, held)
        results = []
        for callback, epochs in ((first, 2), (second, 3)):
            history = model.fit(
                data if self.same else self.data(),
                epochs=epochs,
                verbose=0,
                callbacks=[callback] if callback else held,
            )
            results.append((history.epoch, history.history, all_variables(model)))
        return results, counter.seen, counter.draws


@functools.cache
def uninterrupted(script):
    return script(None)


ONE_DATASET, TWO_DATASETS = TwoFits(), TwoFits(same=False)


def assert_same_fits(actual, expected):
    """Assert equal epochs, history and variables after each fit, and equal calls and draws."""
    for actual_fit, expected_fit in zip(actual[0], expected[0], strict=True):
        assert actual_fit[:2] == expected_fit[:2]
        assert actual_fit[2] == expected_fit[2]
    assert actual[1:] == expected[1:]


@pytest.mark.parametrize("script", [ONE_DATASET, TWO_DATASETS], ids=["one", "two"])
@pytest.mark.parametrize("batch", [3, 2 * BATCHES, 2 * BATCHES + 1, 3 * BATCHES + 2])
def test_two_fits(tmp_path, script, batch):
    """The interrupted fit resumes, an earlier fit is recognised, and a later one is trained."""
    with process(), pytest.raises(Preempted):
        script(tmp_path, GiveNotice("on_train_batch_end", batch))
    with process():
        assert_same_fits(script(tmp_path), uninterrupted(script))


@pytest.mark.parametrize("script", [TWO_DATASETS], ids=["two"])
def test_two_fits_interrupted_between_them(tmp_path, script):
    """The second fit gets the data in the same order as without the interruption."""
    with process(), pytest.raises(Preempted):
        script(tmp_path, GiveNotice("on_train_end", 1))
    with process():
        assert_same_fits(script(tmp_path), uninterrupted(script))


class Failing(keras.callbacks.Callback):
    """A callback that raises an error once."""

    def __init__(self, hook):
        super().__init__()
        self.failed = False

        def fail(*args):
            if not self.failed:
                self.failed = True
                raise ValueError("an error of the script")

        setattr(self, hook, fail)


def failed(folder, hook="on_train_batch_end", data=shuffled, **more):
    """Return a model and a Resumable, after a fit in which a callback raised an error."""
    model, callback = small(), resumable(folder, [Failing(hook)], **more)
    with pytest.raises(ValueError, match="an error of the script"):
        fitted(Training(data=data), model, [callback])
    return model, callback


@pytest.mark.parametrize(
    ("data", "hook"),
    [
        (shuffled, "on_train_batch_end"),
        (of_unknown_length, "on_train_batch_end"),
        (of_unknown_length, "on_test_batch_end"),
        (of_unknown_length, "on_epoch_end"),
    ],
)
def test_fit_again_after_an_error(tmp_path, data, hook):
    """After a failed fit, the model trains on every batch, with Resumable and without."""
    done = []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: done.append(batch)
    )
    with process():
        model, callback = failed(tmp_path, hook, data)
        fitted(Training(data=data), model, [count], epochs=1)
        assert done == [*range(BATCHES)]
        before = int(model.optimizer.iterations)
        model.train_on_batch(*arrays(BATCH))
        assert int(model.optimizer.iterations) == before + 1
        history = fitted(Training(data=data), model, [callback, count], epochs=2)
        assert done == [*range(BATCHES)] * 3
        assert history.epoch == [0, 1]


def test_session_after_an_error(tmp_path):
    """After an error no training is under way, so a notice need not wait for one."""
    with process():
        failed(tmp_path)
        assert not preemption.current().training


def test_evaluate_after_an_error(tmp_path):
    """An evaluation isn't a training: it saves nothing, and a notice doesn't end it."""
    with process() as logs:
        model, callback = failed(tmp_path, save_every="1ms")
        session.current().finish_saves()
        saved = len(logs)
        model.evaluate(*arrays(), verbose=0, callbacks=[callback])
        preemption.current().give_notice(Notice("test"))
        model.evaluate(*arrays(), verbose=0, callbacks=[callback])
        assert len(logs) == saved


def test_evaluate_and_predict(tmp_path):
    """Outside fit, they call the callbacks inside Resumable, save nothing, and touch no store."""

    class Seen(keras.callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            seen.append("test")

        def on_predict_batch_end(self, batch, logs=None):
            seen.append("predict")

    seen = []
    with process() as logs:
        model = small()
        callback = resumable(tmp_path / "store", [Seen()])
        x, y = arrays(BATCH)
        model.evaluate(x, y, verbose=0, callbacks=[callback])
        model.predict(x, verbose=0, callbacks=[callback])
        assert seen == ["test", "predict"]
        assert not logs
        assert not session.current().used
    assert not (tmp_path / "store").exists()


def test_evaluate_during_training(tmp_path):
    """A callback may evaluate the model during a training with Resumable, as it may without."""

    class Evaluate(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.evaluate(*arrays(), verbose=0, batch_size=BATCH)

    training = Training(held=lambda: [Evaluate()])
    preempted(training, tmp_path, "on_epoch_end", 1)
    preempted(training, tmp_path, "on_train_batch_end", 1)
    assert_same(attempt(training, tmp_path), whole(training))


def test_changed_model(tmp_path):
    """The attempt ends with code 78, and the log names both shapes."""
    preempted(USUAL, tmp_path, "on_train_batch_end", 1)

    model = compiled([keras.Input((4,)), keras.layers.Dropout(0.4), keras.layers.Dense(9)])
    with process() as logs, pytest.raises(Refused) as caught:
        fitted(USUAL, model, [resumable(tmp_path, [])])
    assert caught.value.code == 78
    (entry,) = [log for log in logs if log["event"] == events.REFUSED]
    assert (
        "layer sequential/dense: kernel (4, 3) in the checkpoint, (4, 9) in the model"
        in entry["reason"]
    )


def test_shortened_data(tmp_path):
    """The attempt ends with code 78 instead of training with other batches."""
    preempted(USUAL, tmp_path, "on_train_batch_end", 4)
    short = tf.data.Dataset.from_tensor_slices(arrays()).shuffle(16, seed=3).batch(BATCH).take(2)
    with pytest.raises(Refused) as caught:
        attempt(USUAL, tmp_path, x=short)
    assert caught.value.code == 78


def test_hook_outside_fit(tmp_path):
    """A hook that is called outside fit raises an error that names model.fit."""
    with pytest.raises(RuntimeError, match=r"model\.fit"):
        resumable(tmp_path, []).on_train_batch_end(0, {})


@pytest.mark.parametrize("pruned", [False, True])
def test_fenced_while_it_resumes(tmp_path, pruned):
    """A newer attempt fences this one while it resumes, and may prune its shards: 76, not 78."""
    preempted(USUAL, tmp_path, "on_train_batch_end", 2)

    class Rival(keras.callbacks.Callback):
        """A newer attempt that claims the run as soon as this attempt has claimed it."""

        def set_model(self, model):
            session.current().run(rival.settings)
            other = claim_run(LocalStore(tmp_path), "run", retention=KeepNewest(1), versions={})
            if pruned:
                for shard in tmp_path.glob("run/shards/*"):
                    shard.unlink()
            assert other.number == 3

        def get_state(self):
            return None

        def set_state(self, state):
            pass

    rival = resumable(tmp_path, [*callbacks(), Rival()], save_every="1 batch")
    set_seed(SEED)
    with process(), pytest.raises(Fenced) as caught:
        fitted(USUAL, small(), [rival])
    assert caught.value.code == 76


@pytest.mark.parametrize("place", ["inside", "before", "after"])
def test_backup_and_restore_is_disabled(tmp_path, place):
    """BackupAndRestore would change epoch and weights on resume; it is logged and does nothing."""
    training = Training()
    expected = whole(training)

    def one_attempt(*moment):
        with process() as logs:
            set_seed(SEED)
            model = training.model()
            backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", save_freq=1)
            held = [*([backup] if place == "inside" else []), *moment]
            callback = resumable(tmp_path / "store", held)
            callbacks = {
                "inside": [callback],
                "before": [backup, callback],
                "after": [callback, backup],
            }
            try:
                fitted(training, model, callbacks[place])
            finally:
                assert [log["event"] for log in logs].count(events.CALLBACK_REDUNDANT) == 1
            return outcome(model, [], logs)

    with pytest.raises(Preempted):
        one_attempt(GiveNotice("on_train_batch_end", 8))
    resumed = one_attempt()
    assert resumed.variables == expected.variables
    assert resumed.history == expected.history
    assert not (tmp_path / "backup").exists()


def test_callback_that_raises_in_a_hook(tmp_path):
    """A callback's error ends the attempt as it would without Resumable; the next one resumes."""
    training = Training(held=callbacks)
    with pytest.raises(ScriptError):
        attempt(
            training, tmp_path, trainings.Failing("on_train_batch_end", 7), save_every="1 batches"
        )
    assert_same(attempt(training, tmp_path), usual())


def test_metrics_with_odd_names_and_values(tmp_path):
    """NaN, infinity, and a metric with a slash in its name survive a checkpoint."""

    def odd(epoch, logs):
        logs.update({"a/b": 0.5, "nan": float("nan"), "inf": float("inf"), "-inf": -float("inf")})

    training = Training(held=lambda: [keras.callbacks.LambdaCallback(on_epoch_end=odd)])
    preempted(training, tmp_path, "on_train_batch_end", 12)
    history = attempt(training, tmp_path).history
    assert history["a/b"] == [0.5] * 3
    assert history["inf"] == [float("inf")] * 3
    assert history["-inf"] == [-float("inf")] * 3
    assert len(history["nan"]) == 3
    assert all(value != value for value in history["nan"])


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("package", ["mlflow", "wandb"])
def test_experiment_tracker(tmp_path, package, beside):
    """It would begin a new run in each attempt: one line says how to continue its run."""
    module = {"__module__": f"{package}.keras.callback"}
    tracker = type("Tracker", (keras.callbacks.Callback,), module)()
    held = [resumable(tmp_path, [] if beside else [tracker])]
    with process() as logs:
        fitted(USUAL, USUAL.model(), [*held, *([tracker] if beside else [])])
    (entry,) = [log for log in logs if log["event"] == events.TRACKER_STARTS_OVER]
    assert entry["tracker"] == package
    assert package in entry["fix"]


def test_two_fits_of_one_run_at_once(tmp_path):
    """The second one is refused with the way out; the first one goes on."""

    class Nested(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                with pytest.raises(Refused):
                    fitted(Training(), small(), [resumable(tmp_path, [])])

    with process() as logs:
        history = fitted(Training(), small(), [resumable(tmp_path, []), Nested()])
    assert len(history.epoch) > 1
    (entry,) = [log for log in logs if log["event"] == events.REFUSED]
    assert "run=" in entry["fix"]
