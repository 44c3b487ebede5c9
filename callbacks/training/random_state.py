"""The process's random state: Python's, NumPy's, TensorFlow's and Keras'."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import tensorflow as tf

from keepfit.callbacks.checkpoint.codec import Array
from keepfit.callbacks.training import internals


def capture_random_state() -> dict[str, Any]:
    """Return the state of every generator of the process, as plain values and arrays.

    Layers' own seed generators are among the model's variables. Stateful random ops inside a
    graph keep their state in kernels, to which TensorFlow gives no access; Keras uses no such ops.
    """
    seed = internals.global_seed_variable()
    generator = internals.global_generator()
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),
        "tensorflow": None if generator is None else generator.state.numpy(),
        "eager_seeds": internals.eager_seed_state(),
        "keras": None if seed is None else seed.numpy(),
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Restore all generators to a state from `capture_random_state`.

    Python's comes last: Keras draws from it when its own generator has to be created.
    """
    if state["keras"] is not None:
        internals.make_global_seed_variable().assign(state["keras"])
    if state["tensorflow"] is not None:
        _set_global_generator(state["tensorflow"])
    if state["eager_seeds"] is not None:
        internals.set_eager_seed_state(state["eager_seeds"])
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])


def _set_global_generator(state: Array) -> None:
    if (generator := internals.global_generator()) is not None:
        generator.state.assign(state)
        return
    tf.random.set_global_generator(tf.random.Generator.from_state(state, "philox"))
