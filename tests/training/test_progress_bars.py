"""Keras' progress bars and keepfit's log: on a real terminal, and where there is none."""

from __future__ import annotations

import re
import threading

import keras
import numpy as np
import pytest

from keepfit.callbacks import events
from keepfit.callbacks.keras.progress_bars import lines_for_bars
from keepfit.callbacks.logs import logger
from keepfit.job import log_output
from tests import terminal

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
ROWS = np.zeros((40, 2), "float32")


class Logs(keras.callbacks.Callback):
    """A callback that logs from a thread, as the writer of checkpoints does."""

    def on_train_batch_end(self, batch, logs=None):
        if batch in (3, 4, 9):
            saved = {"epoch": 1, "batch": batch, "step": batch, "mib": 1.0, "seconds": 2.0}
            thread = threading.Thread(
                target=logger.get_logger().info, args=[events.SAVED], kwargs=saved
            )
            thread.start()
            thread.join()


@pytest.fixture
def progbar_draws_always(monkeypatch):
    """Draw the bar at each batch, however fast the machine is."""
    constructor = keras.utils.Progbar.__init__

    def draws_always(self, *args, **options):
        constructor(self, *args, **options | {"interval": 0})

    monkeypatch.setattr(keras.utils.Progbar, "__init__", draws_always)


def fitted(**options):
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(ROWS, ROWS[:, 0], batch_size=4, shuffle=False, callbacks=[Logs()], **options)
    return model


def test_the_log_above_a_bar(monkeypatch, progbar_draws_always):
    """Each event has a line of its own; the bar goes on below, and is whole at its end."""
    monkeypatch.setenv("TERM", "xterm")
    with terminal.opened() as (user, file), lines_for_bars():
        monkeypatch.setattr("sys.stdout", file)
        monkeypatch.setattr("sys.stderr", file)
        log_output.configure("run", file)
        fitted(epochs=2, verbose=1)
        monkeypatch.undo()
    lines = [re.sub(r"^\S+ keepfit: ", "", line) for line in user.lines()]
    saved = [f"saved epoch 1, batch {n} (step {n}): 1 MiB in 2 s" for n in (3, 4, 9)]
    bar = re.compile(r"10/10 ━{20} \ds \d+ms/step - loss: 0\.0000e\+00")
    assert lines[:4] == ["Epoch 1/2", *saved]
    assert bar.fullmatch(lines[4])
    assert lines[5:9] == ["Epoch 2/2", *saved]
    assert bar.fullmatch(lines[9])
    assert len(lines) == 10
    assert user.written.count(b"\b") > 100  # a bar was there to be interrupted


@pytest.mark.parametrize("verbose", ["auto", 1, 2])
def test_no_terminal(verbose, capsys):
    """Two lines for an epoch, one for `evaluate` and `predict`; no control characters."""
    with lines_for_bars():
        model = fitted(epochs=2, verbose=verbose)
        model.evaluate(ROWS, ROWS[:, 0], batch_size=4, verbose=verbose)
        model.predict(ROWS, batch_size=20, verbose=verbose)
    out, _ = capsys.readouterr()
    assert not CONTROL.search(out)
    epoch = r"10/10 - \ds - \d+(ms|us|s)/step - loss: 0\.0000e\+00\n"
    assert re.fullmatch(
        rf"Epoch 1/2\n{epoch}Epoch 2/2\n{epoch}{epoch}2/2 - \ds - \d+(ms|us|s)/step\n", out
    )


def test_an_input_of_unknown_length(capsys):
    """The first epoch ends with its line too."""
    batches = ((ROWS[:4], ROWS[:4, 0]) for _ in range(3))
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    with lines_for_bars():
        with pytest.warns(UserWarning, match="ran out of data|ignored"):
            model.fit(batches, verbose=1)
        bar = keras.utils.Progbar(None)
        bar.update(2)
        bar.update(7, [("size", 2.0)], finalize=True)
    first, second = capsys.readouterr().out.splitlines()
    assert re.match(r"3/3 - \ds - \d+(ms|us|s)/step - loss: ", first)
    assert re.match(r"7/7 - \ds - .* - size: 2\.0000", second)


def test_a_quiet_script(capsys):
    """It stays quiet; and after the block, Keras is as it was."""
    update = keras.utils.Progbar.update
    with lines_for_bars():
        assert keras.utils.Progbar.update is not update
        fitted(verbose=0)
    assert keras.utils.Progbar.update is update
    assert capsys.readouterr().out == ""
    bar = keras.utils.Progbar(2, verbose=1)
    bar.update(2)
    assert "\r" in capsys.readouterr().out
