"""Fixtures: a small training for callbacks, and the log events."""

import keras
import numpy as np
import pytest

from keepfit.callbacks.adapters.held_callbacks import HeldCallbacks
from keepfit.callbacks.logs.logger import capture_logs


@pytest.fixture(autouse=True)
def finish_sends(monkeypatch):
    """Stop the sending threads of all callbacks that a test has held, as Resumable does."""
    held, hold = [], HeldCallbacks.hold

    def recording(callbacks, guard=None):
        held.append(hold(callbacks, guard))
        return held[-1]

    monkeypatch.setattr(HeldCallbacks, "hold", recording)
    yield
    for callbacks in held:
        callbacks.finish_sends(0.0)


@pytest.fixture(scope="session")
def train():
    """Return a function that trains a small model with callbacks, without Resumable."""

    def fit(*callbacks, epochs=3, start=0):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(use_ema=True), "mse")
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(8, 2)), rng.normal(size=8)
        return model.fit(
            x,
            y,
            batch_size=4,
            epochs=epochs,
            initial_epoch=start,
            verbose=0,
            validation_split=0.5,
            callbacks=list(callbacks),
        )

    return fit


@pytest.fixture
def logged():
    """Return the list of log events, which grows during the test."""
    with capture_logs() as entries:
        yield entries
