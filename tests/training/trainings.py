"""Small trainings, run in this process: uninterrupted, or interrupted and resumed."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend.common import global_state

from keepfit import Resumable
from keepfit.callbacks.engine import preemption, session
from keepfit.callbacks.engine.preemption import Notice
from keepfit.callbacks.errors import Preempted
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.training import variables

SEED = 7
NO_STATE = ("params", "_model", "monitor_op", "min_delta")
ROWS, BATCH, BATCHES = 40, 8, 5


def set_seed(seed: int) -> None:
    """Seed all generators, and let Keras create its global one again, as in a new process.

    keras.utils.set_random_seed does so itself from Keras 3.13 on.
    """
    keras.utils.set_random_seed(seed)
    global_state.set_global_attribute("global_seed_generator", None)


def arrays(rows: int = ROWS, seed: int = 0):
    """Return features and labels of three classes."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, 4)).astype("float32"), rng.integers(0, 3, rows)


def shuffled():
    """Return five batches of a seeded shuffle."""
    return tf.data.Dataset.from_tensor_slices(arrays()).shuffle(16, seed=3).batch(BATCH)


def twice_as_long():
    """Return ten batches. Not by `repeat(2)`: its prefetch reshuffles at an unpredictable time."""
    return tf.data.Dataset.from_tensor_slices(arrays(2 * ROWS)).shuffle(16, seed=3).batch(BATCH)


def mapped():
    """Return `shuffled` with a parallel map and a prefetch, whose threads read ahead."""
    rows = tf.data.Dataset.from_tensor_slices(arrays()).shuffle(16, seed=3)
    return rows.map(lambda x, y: (x * 2, y), num_parallel_calls=2).batch(BATCH).prefetch(2)


def twice_shuffled():
    """Return batches with two shuffles: of the rows, and then of the batches."""
    return shuffled().shuffle(3, seed=4)


def of_unknown_length():
    """Return filtered rows in batches: the length is known only at the end of the data."""
    rows = tf.data.Dataset.from_tensor_slices(arrays()).shuffle(16, seed=3)
    return rows.filter(lambda x, y: y < 3).batch(BATCH)


def endless():
    """Return an infinite dataset; it needs `steps_per_epoch`."""
    rows = tf.data.Dataset.from_tensor_slices(arrays()).shuffle(16, seed=3)
    return rows.repeat().batch(BATCH)


def generated():
    """Return batches of a Python generator, whose position can't be saved."""

    def batches():
        x, y = arrays()
        for i in range(0, ROWS, BATCH):
            yield x[i : i + BATCH], y[i : i + BATCH]

    spec = (tf.TensorSpec((None, 4), tf.float32), tf.TensorSpec((None,), tf.int64))
    return tf.data.Dataset.from_generator(batches, output_signature=spec)


def from_arrays():
    """Return NumPy arrays, which Keras shuffles, as arguments of fit."""
    x, y = arrays()
    return {"x": x, "y": y, "batch_size": BATCH}


def small(optimizer: Any = None, **compile_arguments: Any) -> keras.Model:
    """Return a model that traces quickly, for tests in which the model does not matter."""
    layers = [keras.Input((4,)), keras.layers.Dropout(0.4), keras.layers.Dense(3)]
    return compiled(layers, optimizer, **compile_arguments)


def classifier(optimizer: Any = None, **compile_arguments: Any) -> keras.Model:
    """Return a model whose state includes dropout seeds and averages of batch normalisation."""
    return compiled([keras.Input((4,)), *_layers()], optimizer, **compile_arguments)


def unbuilt(optimizer: Any = None, **compile_arguments: Any) -> keras.Model:
    """Return the model of `classifier`, not built before the first batch."""
    return compiled(_layers(), optimizer, **compile_arguments)


def compiled(layers: list[Any], optimizer: Any = None, **compile_arguments: Any) -> keras.Model:
    """Return a compiled classifier of these layers."""
    model = keras.Sequential(layers)
    model.compile(
        optimizer or keras.optimizers.SGD(0.05, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **compile_arguments,
    )
    return model


def _layers() -> list[Any]:
    return [
        keras.layers.Dense(4),
        keras.layers.Dropout(0.4),
        keras.layers.BatchNormalization(),
        keras.layers.Dense(3),
    ]


@dataclass(frozen=True)
class Training:
    """A training as a script defines it: model, callbacks and data are created for each attempt.

    Attributes:
        model: creates the model.
        held: creates the callbacks inside Resumable.
        data: creates the input: a dataset, or a dict of arguments of `fit`.
        validated: `fit` gets validation data.
        fit: more arguments of `fit`.
    """

    model: Callable[[], keras.Model] = small
    held: Callable[[], list[Any]] = list
    data: Callable[[], Any] = shuffled
    validated: bool = True
    fit: dict[str, Any] = field(default_factory=lambda: {"epochs": 3})


@dataclass(frozen=True)
class Outcome:
    """The result of a training: everything that has to be equal after an interruption."""

    variables: dict[str, bytes]
    history: dict[str, list[float]]
    epochs: list[int]
    draws: list[float]
    states: list[Any]
    held: list[Any] = field(compare=False, repr=False)
    model: keras.Model = field(compare=False, repr=False)
    logs: list[dict[str, Any]] = field(compare=False, repr=False)

    def named(self, event: str) -> list[dict[str, Any]]:
        return [log for log in self.logs if log["event"] == event]


class HookAction(keras.callbacks.Callback):
    """A callback that acts in the n-th call of a hook, from 1. It keeps no state."""

    def __init__(self, hook: str, number: int) -> None:
        super().__init__()
        self._left = number

        def reached(*args: Any, **kwargs: Any) -> None:
            self._left -= 1
            if not self._left:
                self.act()

        setattr(self, hook, reached)

    def get_state(self) -> None:
        return None

    def set_state(self, state: None) -> None:
        pass


class GiveNotice(HookAction):
    """A callback that gives this process a notice."""

    def act(self) -> None:
        preemption.current().give_notice(Notice("test"))


class ScriptError(Exception):
    """An error of the script's own."""


class Failing(HookAction):
    """A callback that raises an error, which ends `fit` without a notice."""

    def act(self) -> None:
        raise ScriptError


def all_variables(model: keras.Model) -> dict[str, bytes]:
    """Return the bytes of every variable that training changes, by name."""
    return {n.spec.name: n.variable.numpy().tobytes() for n in variables.find_variables(model)}


def uri(location) -> str:
    """Return the URI of a folder; a location with a scheme is returned unchanged."""
    return location if "://" in str(location) else f"file://{location}"


def resumable(folder, held, **more) -> Resumable:
    """Return a Resumable with a store at `folder`, and by default no save before an hour."""
    return Resumable(held, **{"store": uri(folder), "run": "run", "save_every": "1h", **more})


def fitted(training: Training, model: keras.Model, callbacks: list[Any], **changed: Any) -> Any:
    """Call `fit` as the script does, with changed arguments. Return the history."""
    data = training.data()
    data = data if isinstance(data, dict) else {"x": data}
    if training.validated:
        data["validation_data"] = tf.data.Dataset.from_tensor_slices(arrays(20, 1)).batch(BATCH)
    arguments = {"verbose": 0, **data, **training.fit, **changed}
    return model.fit(callbacks=callbacks, **arguments)


def outcome(model, held, logs) -> Outcome:
    """Collect everything that can differ between two trainings."""
    history = model.history
    states = []
    for callback in held:
        own = {k: v for k, v in vars(callback).items() if k not in NO_STATE}
        plain = (bool, int, float, str, list, tuple, dict, type(None))
        states.append({k: _comparable(v) for k, v in own.items() if isinstance(v, plain)})
    draws = [float(np.random.random()), float(tf.random.normal([])), float(keras.random.normal([]))]
    return Outcome(
        all_variables(model), history.history, history.epoch, draws, states, held, model, logs
    )


def _comparable(value: Any) -> Any:
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def whole(training: Training, **changed: Any) -> Outcome:
    """Run the training without Resumable, as the expected outcome of interrupted ones."""
    set_seed(SEED)
    model, held = training.model(), training.held()
    fitted(training, model, held, **changed)
    return outcome(model, held, [])


@contextlib.contextmanager
def process():
    """Simulate a process: open a session of its own, and yield its log."""
    with capture_logs() as logs, session.open_session():
        yield logs


def attempt(
    training: Training, folder, *more: HookAction, save_every: str = "1h", **changed: Any
) -> Outcome:
    """Make one attempt at the training, as a new process would."""
    with process() as logs:
        set_seed(SEED)
        model, held = training.model(), training.held()
        callbacks = [resumable(folder, [*held, *more], save_every=save_every)]
        fitted(training, model, callbacks, **changed)
        return outcome(model, held, logs)


def preempted(training: Training, folder, *moment: Any, **changed: Any) -> Preempted:
    """Make one attempt that gets a notice in the n-th call of a hook, and exits after a save."""
    with pytest.raises(Preempted) as caught:
        attempt(training, folder, GiveNotice(*moment), **changed)
    assert caught.value.code == 75
    assert caught.value.saved
    return caught.value


def assert_same(resumed: Outcome, expected: Outcome) -> None:
    """Assert that two outcomes are equal; a failure names the differing part."""
    differing = [n for n, v in expected.variables.items() if resumed.variables.get(n) != v]
    assert not differing
    assert resumed.variables.keys() == expected.variables.keys()
    assert resumed.history == expected.history
    assert resumed.epochs == expected.epochs
    assert resumed.states == expected.states
    assert resumed.draws == expected.draws


class Counter(keras.callbacks.Callback):
    """A callback that records the calls of its hooks, and draws a random number in each."""

    def __init__(self):
        super().__init__()
        self.seen = []
        self.draws = []

    def record(self, call):
        self.seen.append(call)
        self.draws.append(float(np.random.random()))

    def on_epoch_begin(self, epoch, logs=None):
        self.record(f"epoch {epoch}")

    def on_train_batch_begin(self, batch, logs=None):
        self.record(f"begin {batch}")

    def on_train_batch_end(self, batch, logs=None):
        self.record(f"end {batch} {logs['loss']:.6f}")

    def on_epoch_end(self, epoch, logs=None):
        self.record(f"epoch end {sorted(logs)}")


def callbacks():
    return [keras.callbacks.EarlyStopping("val_loss", patience=2), Counter()]


USUAL = Training(held=callbacks)


@functools.cache
def usual():
    """Return the outcome of the usual training, never interrupted; computed once."""
    return whole(USUAL)
