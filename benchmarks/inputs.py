"""Measure the digest of an input's content, and what the training thread notices of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import typer
from rich.console import Console
from rich.table import Table

from keepfit.callbacks.training.identity.inputs import FitInput, content_digest

ROW = 1024
"""Numbers in a row of the input."""

now = time.perf_counter


@dataclass(frozen=True)
class Digested:
    """The seconds of one input.

    Attributes:
        gather: on the training thread, to refer to the input.
        digest: on the other thread.
        pause: the longest time for which the training thread could not run meanwhile.
    """

    gather: float
    digest: float
    pause: float


class _Rows(keras.utils.PyDataset):
    """A PyDataset of rows in an attribute, whose order its hook changes."""

    def __init__(self, rows: np.ndarray[Any, Any]) -> None:
        super().__init__()
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows) // 32

    def __getitem__(self, index: int) -> Any:
        return self.rows[index * 32 : (index + 1) * 32], np.zeros(32, "float32")

    def on_epoch_end(self) -> None:
        np.random.default_rng(0).shuffle(self.rows)


class _Measure(keras.callbacks.Callback):
    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002
        began = now()
        given = FitInput.current(self.model)
        gather = now() - began
        with ThreadPoolExecutor(1) as pool:
            began = now()
            digest = pool.submit(content_digest, given)
            pause, last = 0.0, now()
            while not digest.done():
                pause, last = max(pause, now() - last), now()
            self.result = Digested(gather, now() - began, pause)


def inputs(mib: int = 1024) -> None:
    """Measure inputs of each kind.

    Args:
        mib: size of each input in MiB.
    """
    x = np.random.default_rng(0).random((mib * 2**20 // (4 * ROW), ROW), "float32")
    y = np.zeros(len(x), "float32")
    kinds: dict[str, Callable[[], dict[str, Any]]] = {
        "NumPy array": lambda: {"x": x, "y": y},
        "NumPy array, every second column": lambda: {"x": x[:, ::2], "y": y},
        "tf.data, from_tensor_slices": lambda: {
            "x": tf.data.Dataset.from_tensor_slices((x, y)).shuffle(99).batch(32)
        },
        "PyDataset that shuffles its rows": lambda: {"x": _Rows(x)},
    }
    result = Table(title=f"{mib} MiB in rows of {4 * ROW} bytes")
    for name in ("", "gather, ms", "digest, s", "longest pause, ms"):
        result.add_column(name, justify="left" if not name else "right")
    for name, given in kinds.items():
        measured = _measure(**given())
        pause = f"{measured.pause * 1000:.1f}"
        result.add_row(name, f"{measured.gather * 1000:.3f}", f"{measured.digest:.2f}", pause)
    Console(width=max(Console().width, 100)).print(result)


def _measure(x: Any, **more: Any) -> Digested:
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    measure = _Measure()
    model.fit(x, **more, steps_per_epoch=1, verbose=0, callbacks=[measure])
    return measure.result


if __name__ == "__main__":
    typer.run(inputs)
