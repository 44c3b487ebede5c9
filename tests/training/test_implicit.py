"""Each `fit` of a process is resumable without a line in its script, as under `keepfit run`."""

from __future__ import annotations

import copy
import os
import threading
from contextlib import contextmanager

import keras
import pytest
import tensorflow as tf

import keepfit
from keepfit.callbacks import environment
from keepfit.callbacks.errors import Preempted, Refused
from keepfit.callbacks.keras.implicit import hold_every_fit
from tests.training.trainings import (
    BATCHES,
    SEED,
    USUAL,
    Failing,
    GiveNotice,
    arrays,
    assert_same,
    fitted,
    outcome,
    process,
    resumable,
    set_seed,
    small,
    usual,
    whole,
)

SETTERS = ("set_model", "set_params")


@pytest.fixture(autouse=True)
def run_of_this_test(tmp_path, monkeypatch):
    """Name the run and the store as `keepfit run` does, by variables."""
    monkeypatch.setenv("KEEPFIT_STORE", f"file://{tmp_path}/store")
    monkeypatch.setenv("KEEPFIT_RUN", "run")
    monkeypatch.setenv("KEEPFIT_SAVE_EVERY", "1h")


@contextmanager
def held_process():
    """Simulate a process under `keepfit run`; yield its log."""
    with process() as logs, hold_every_fit():
        yield logs


def attempt(training, *more, **changed):
    """Make one attempt at a training whose script does not name keepfit."""
    with held_process() as logs:
        set_seed(SEED)
        model, held = training.model(), training.held()
        fitted(training, model, [*held, *more], **changed)
        return outcome(model, held, logs)


def named(logs, event):
    """Return the log lines of an event."""
    return [log for log in logs if log["event"] == event]


@pytest.mark.parametrize("moment", [("on_train_batch_end", 7), ("on_epoch_end", 2)], ids=str)
def test_resumed(moment):
    """The outcome is that of a training that was never interrupted."""
    with pytest.raises(Preempted):
        attempt(USUAL, GiveNotice(*moment))
    resumed = attempt(USUAL)
    assert_same(resumed, usual())
    assert resumed.named("resumed")
    assert len(resumed.named("fits_resumable")) == 1


@pytest.mark.parametrize("given", [None, []])
def test_without_callbacks(given, monkeypatch):
    """Keras calls hooks in other threads if a script has no callbacks; those of Resumable not."""
    monkeypatch.setattr("keras.src.backend.IS_THREAD_SAFE", True)  # as in some versions of Keras
    threads = set()
    batch_ends = keepfit.Resumable.on_train_batch_end

    def recorded(self, batch, logs=None):
        threads.add(threading.get_ident())
        batch_ends(self, batch, logs)

    monkeypatch.setattr(keepfit.Resumable, "on_train_batch_end", recorded)
    with held_process() as logs:
        small().fit(*arrays(), epochs=2, batch_size=8, verbose=0, callbacks=given)
    assert named(logs, "finished")
    assert threads == {threading.get_ident()}


def test_resumable_in_the_script_wins(tmp_path):
    """Its settings count: in a list, as an attribute of a callback, and in a list of those."""

    class Wrapper(keras.callbacks.Callback):
        """A callback that passes all hooks on to another one."""

        def __init__(self, inside, attribute):
            super().__init__()
            self.inside = attribute(inside)
            for hook in (*(name for name in dir(inside) if name.startswith("on_")), *SETTERS):
                setattr(self, hook, getattr(inside, hook))

    for number, wrapped in enumerate((None, lambda inside: inside, lambda inside: [inside])):
        own = resumable(tmp_path / f"{number}", [])
        with held_process() as logs:
            small().fit(*arrays(), verbose=0, callbacks=[Wrapper(own, wrapped) if wrapped else own])
        assert named(logs, "finished")
        assert not named(logs, "fits_resumable")
        assert (tmp_path / f"{number}/run/HEAD.json").exists()
    assert not (tmp_path / "store").exists()


def test_fit_within_a_fit_is_named():
    """It is left as it is: the run has one position. The outer one is resumable."""

    class Inner(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            small().fit(*arrays(), verbose=0)

        def get_state(self):
            return None

        def set_state(self, state):
            pass

    with held_process() as logs:
        small().fit(*arrays(), epochs=3, verbose=0, callbacks=[Inner()])
    (said,) = named(logs, "fit_not_resumable")
    assert "within another" in said["reason"]
    assert len(named(logs, "finished")) == 1


def test_fit_in_another_thread_is_named():
    """The first of two fits at the same time is resumable, the other one is named."""
    inside, go_on = threading.Event(), threading.Event()

    class Wait(GiveNotice):
        def act(self):
            inside.set()
            go_on.wait(60)

    with held_process() as logs:
        first = threading.Thread(
            target=lambda: small().fit(
                *arrays(), verbose=0, callbacks=[Wait("on_train_batch_end", 2)]
            )
        )
        first.start()
        assert inside.wait(60)
        small().fit(*arrays(), verbose=0)
        go_on.set()
        first.join()
        small().fit(*arrays(), verbose=0, epochs=2)
    (said,) = named(logs, "fit_not_resumable")
    assert "another thread" in said["reason"]
    assert len(named(logs, "finished")) == 2


def test_list_of_the_script():
    """A fit with a CallbackList that the script has made is resumable; its callbacks are named."""
    model = small()
    given = keras.callbacks.CallbackList(
        [keras.callbacks.LambdaCallback()], add_history=True, model=model, epochs=2, steps=BATCHES
    )
    with held_process() as logs:
        model.fit(*arrays(), epochs=2, batch_size=8, verbose=0, callbacks=given)
    assert named(logs, "finished")
    assert named(logs, "callback_outside")


def gradient_step(model):
    """Return the step of a training loop of one's own."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def step(x, y):
        with tf.GradientTape() as tape:
            value = loss(y, model(x, training=True))
        weights = model.trainable_variables
        model.optimizer.apply_gradients(zip(tape.gradient(value, weights), weights, strict=True))
        return value

    return step


LOOPS = {
    "train_on_batch": lambda model: model.train_on_batch,
    "a loop": gradient_step,
    "a traced loop": lambda model: tf.function(gradient_step(model)),
}


@pytest.mark.parametrize("loop", LOOPS)
def test_other_training_is_named_when_it_begins(loop, monkeypatch):
    """It is named once, before its first step has ended; with --exact it is refused."""
    model = small()
    with held_process() as logs:
        step = LOOPS[loop](model)
        step(*arrays())
        (said,) = named(logs, "not_resumable")
        step(*arrays())
        assert named(logs, "not_resumable") == [said]
    assert "train_on_batch" in said["reason"] or "loop of its own" in said["reason"]
    monkeypatch.setenv("KEEPFIT_EXACT", "1")
    before = int(model.optimizer.iterations)
    with held_process() as logs, pytest.raises(Refused):
        LOOPS[loop](model)(*arrays())
    assert named(logs, "refused")
    assert int(model.optimizer.iterations) == before


def test_steps_of_fit_are_not_named():
    """A train step of one's own, eager or traced, applies gradients within `fit`."""

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, x):
            return self.dense(x)

        def train_step(self, data):
            return {"loss": gradient_step(self)(*data)}

    with held_process() as logs:
        for eager in (False, True):
            model = Own()
            model.compile("sgd", run_eagerly=eager)
            model.fit(*arrays(), batch_size=20, verbose=0)
        strategy = tf.distribute.MirroredStrategy(["CPU:0"])
        with strategy.scope():
            mirrored = small()
        mirrored.fit(*arrays(), batch_size=20, verbose=0)
    assert len(named(logs, "finished")) == 3
    assert not named(logs, "not_resumable")


def test_evaluation_is_named_if_no_fit_came_before():
    """Each attempt repeats it. What is evaluated after or within a fit is silent."""
    with held_process() as logs:
        model = small()
        model.evaluate(*arrays(), verbose=0)
        model.predict(arrays()[0], verbose=0)
    (said,) = named(logs, "evaluation_repeated")
    assert said["method"] == "evaluate"
    with held_process() as logs:
        model.fit(*arrays(), verbose=0, validation_data=arrays())
        model.evaluate(*arrays(), verbose=0)
    assert not named(logs, "evaluation_repeated")


def test_forked_process(tmp_path):
    """A fit in a process that the script has forked leaves the run to its parent."""
    with held_process():
        told, tell = os.pipe()
        if not (child := os.fork()):
            logs = []
            try:
                with process() as logs:
                    small().fit(*arrays(), verbose=0, callbacks=[Failing("set_model", 1)])
            finally:
                os.write(tell, "\n".join(log["event"] for log in logs).encode())
                os._exit(0)
        os.close(tell)
        with os.fdopen(told, "rb") as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
    assert said == b"fit_not_resumable"
    assert not (tmp_path / "store").exists()


def test_unsupported_environment_is_refused_when_training_begins(monkeypatch):
    """A script that does not train is left alone, and --only-explicit leaves all alone."""
    monkeypatch.setitem(environment.SUPPORTED, "keras", ((3, 0), (3, 1)))
    with held_process() as logs:
        model = small()
        model.evaluate(*arrays(), verbose=0)
        with pytest.raises(Refused):
            model.fit(*arrays(), verbose=0)
    assert "is installed; a resumed training is exact with" in named(logs, "refused")[0]["reason"]
    model.fit(*arrays(), verbose=0)


def test_nothing_of_keras_stays_changed():
    """After the block, a fit is as it was; a method of a subclass stays the subclass's."""
    watched = (
        (keras.Model, "train_on_batch"),
        (keras.Model, "fit"),
        (keras.optimizers.Optimizer, "apply"),
    )
    before = [vars(owner).get(name) for owner, name in watched]
    with held_process():
        assert [vars(owner).get(name) for owner, name in watched] != before
    assert [vars(owner).get(name) for owner, name in watched] == before
    assert_same(whole(USUAL), usual())


def test_callbacks_of_the_script_are_not_changed():
    """The list that the script has passed is its own, and can be used for the next fit."""
    given = [keras.callbacks.LambdaCallback()]
    same = copy.copy(given)
    with held_process() as logs:
        for epochs in (1, 2):
            small().fit(*arrays(), epochs=epochs, verbose=0, callbacks=given)
    assert given == same
    assert len(named(logs, "finished")) == 2
