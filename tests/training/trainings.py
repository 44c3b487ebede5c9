"""Small trainings, run in this process: whole, or interrupted and resumed."""

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
from structlog.testing import capture_logs

from keepfit import Resumable
from keepfit.callbacks import session
from keepfit.callbacks.errors import Preempted
from keepfit.callbacks.session import Notice
from keepfit.callbacks.training import variables

SEED = 7
NO_STATE = ("params", "_model", "monitor_op", "min_delta")
ROWS, BATCH, BATCHES = 40, 8, 5


def arrays(rows: int = ROWS, seed: int = 0):
    """Features and labels of three classes."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, 4)).astype("float32"), rng.integers(0, 3, rows)


def shuffled():
    """Five batches of a seeded shuffle."""
    return tf.data.Dataset.from_tensor_slices(arrays()).shuffle(16, seed=3).batch(BATCH)


def twice_as_long():
    """Ten batches. Not `repeat(2)`: what reads ahead then shuffles anew at a time of its own."""
    return tf.data.Dataset.from_tensor_slices(arrays(2 * ROWS)).shuffle(16, seed=3).batch(BATCH)


def mapped():
    """As `shuffled`, with threads of its own, which read ahead."""
    rows = tf.data.Dataset.from_tensor_slices(arrays()).shuffle(16, seed=3)
    return rows.map(lambda x, y: (x * 2, y), num_parallel_calls=2).batch(BATCH).prefetch(2)


def twice_shuffled():
    """First the rows, and then the batches."""
    return shuffled().shuffle(3, seed=4)


def of_unknown_length():
    """The same behind a filter, so that only the end of the data tells how long it is."""
    rows = tf.data.Dataset.from_tensor_slices(arrays()).shuffle(16, seed=3)
    return rows.filter(lambda x, y: y < 3).batch(BATCH)


def endless():
    """An infinite dataset; the fit says how many batches make an epoch."""
    rows = tf.data.Dataset.from_tensor_slices(arrays()).shuffle(16, seed=3)
    return rows.repeat().batch(BATCH)


def generated():
    """Batches of a Python generator, whose position can't be saved."""

    def batches():
        x, y = arrays()
        for i in range(0, ROWS, BATCH):
            yield x[i : i + BATCH], y[i : i + BATCH]

    spec = (tf.TensorSpec((None, 4), tf.float32), tf.TensorSpec((None,), tf.int64))
    return tf.data.Dataset.from_generator(batches, output_signature=spec)


def from_arrays():
    """NumPy arrays, which Keras shuffles."""
    x, y = arrays()
    return {"x": x, "y": y, "batch_size": BATCH}


def small(optimizer: Any = None, **compile_arguments: Any) -> keras.Model:
    """With little to trace, for tests of what happens around the model."""
    layers = [keras.Input((4,)), keras.layers.Dropout(0.4), keras.layers.Dense(3)]
    return compiled(layers, optimizer, **compile_arguments)


def classifier(optimizer: Any = None, **compile_arguments: Any) -> keras.Model:
    """With dropout, whose seeds are state, and batch normalisation, whose averages are."""
    return compiled([keras.Input((4,)), *_layers()], optimizer, **compile_arguments)


def unbuilt(optimizer: Any = None, **compile_arguments: Any) -> keras.Model:
    """The same, but it learns its input's shape from the first batch."""
    return compiled(_layers(), optimizer, **compile_arguments)


def compiled(layers: list[Any], optimizer: Any = None, **compile_arguments: Any) -> keras.Model:
    """A classifier of these layers."""
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
    """What a script says: everything is made anew for each attempt.

    Attributes:
        fit: arguments of `fit`; a function among them is called to make the argument.
    """

    model: Callable[[], keras.Model] = small
    held: Callable[[], list[Any]] = list
    data: Callable[[], Any] = shuffled
    validated: bool = True
    fit: dict[str, Any] = field(default_factory=lambda: {"epochs": 3})


@dataclass(frozen=True)
class Outcome:
    """What a training ends with."""

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


class AtOneMoment(keras.callbacks.Callback):
    """Does something in the n-th call of a hook, from 1. Keeps no state."""

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


class Moment(AtOneMoment):
    """Gives this process its notice."""

    def act(self) -> None:
        session.current().give_notice(Notice("test"))


class Mistake(Exception):
    """One of the script's own."""


class Failing(AtOneMoment):
    """Ends `fit` without a notice."""

    def act(self) -> None:
        raise Mistake


def all_variables(model: keras.Model) -> dict[str, bytes]:
    """The bytes of every variable that training changes, by name."""
    return {n.spec.name: n.variable.numpy().tobytes() for n in variables.find_variables(model)}


def uri(place) -> str:
    """Of a folder, or as it is if it has a scheme."""
    return place if "://" in str(place) else f"file://{place}"


def resumable(folder, held, **more) -> Resumable:
    """With a store of its own, and no save that isn't asked for."""
    return Resumable(held, **{"store": uri(folder), "run": "run", "save_every": "1h", **more})


def fitted(training: Training, model: keras.Model, callbacks: list[Any], **changed: Any) -> Any:
    """`fit` as the script calls it."""
    data = training.data()
    data = data if isinstance(data, dict) else {"x": data}
    if training.validated:
        data["validation_data"] = tf.data.Dataset.from_tensor_slices(arrays(20, 1)).batch(BATCH)
    arguments = {"verbose": 0, **data, **training.fit, **changed}
    return model.fit(callbacks=callbacks, **arguments)


def outcome(model, held, logs) -> Outcome:
    """Everything that can differ between two trainings."""
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
    """The training without Resumable: what it has to be equal to."""
    keras.utils.set_random_seed(SEED)
    model, held = training.model(), training.held()
    fitted(training, model, held, **changed)
    return outcome(model, held, [])


@contextlib.contextmanager
def process():
    """Stands for a process: a session of its own, whose log is given."""
    with capture_logs() as logs, session.open_session():
        yield logs


def attempt(
    training: Training, folder, *more: AtOneMoment, save_every: str = "1h", **changed: Any
) -> Outcome:
    """One attempt at the training, as a new process would make it."""
    with process() as logs:
        keras.utils.set_random_seed(SEED)
        model, held = training.model(), training.held()
        callbacks = [resumable(folder, [*held, *more], save_every=save_every)]
        fitted(training, model, callbacks, **changed)
        return outcome(model, held, logs)


def preempted(training: Training, folder, *moment: Any, **changed: Any) -> Preempted:
    """One attempt that gets a notice at a moment, and leaves."""
    with pytest.raises(Preempted) as caught:
        attempt(training, folder, Moment(*moment), **changed)
    assert caught.value.code == 75
    assert caught.value.saved
    return caught.value


def assert_same(resumed: Outcome, expected: Outcome) -> None:
    """Equal in all, and where not, it says in what."""
    differing = [n for n, v in expected.variables.items() if resumed.variables.get(n) != v]
    assert not differing
    assert resumed.variables.keys() == expected.variables.keys()
    assert resumed.history == expected.history
    assert resumed.epochs == expected.epochs
    assert resumed.states == expected.states
    assert resumed.draws == expected.draws


class Counter(keras.callbacks.Callback):
    """Counts what it sees, and draws where others only look."""

    def __init__(self):
        super().__init__()
        self.seen = []
        self.draws = []

    def saw(self, what):
        self.seen.append(what)
        self.draws.append(float(np.random.random()))

    def on_epoch_begin(self, epoch, logs=None):
        self.saw(f"epoch {epoch}")

    def on_train_batch_begin(self, batch, logs=None):
        self.saw(f"begin {batch}")

    def on_train_batch_end(self, batch, logs=None):
        self.saw(f"end {batch} {logs['loss']:.6f}")

    def on_epoch_end(self, epoch, logs=None):
        self.saw(f"epoch end {sorted(logs)}")


def callbacks():
    return [keras.callbacks.EarlyStopping("val_loss", patience=2), Counter()]


USUAL = Training(held=callbacks)


@functools.cache
def usual():
    """The usual training, never interrupted; made once."""
    return whole(USUAL)
