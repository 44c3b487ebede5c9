"""The process's random state: Python's, NumPy's, TensorFlow's and Keras'."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import tensorflow as tf

from keepfit.callbacks.checkpoint.format.codec import Array
from keepfit.callbacks.checkpoint.format.key_names import shorten
from keepfit.callbacks.checkpoint.format.state_schema import InvalidState, check_fields
from keepfit.callbacks.training import internals

_GENERATORS = ("python", "numpy", "tensorflow", "eager_seeds", "keras")

_SEED_SIZES = {"tensorflow": (2, 3), "keras": (2,)}
"""Numbers in the states of TensorFlow's generator, by its algorithm, and of a seed generator."""


def capture_random_state() -> dict[str, Any]:
    """Return the state of every generator of the process, as plain values and arrays.

    The words of the Mersenne twisters are arrays, which need no encoding.

    Layers' own seed generators are among the model's variables. Stateful random ops inside a
    graph keep their state in kernels, to which TensorFlow gives no access; Keras uses no such ops.
    """
    seed = internals.global_seed_variable()
    generator = internals.global_generator()
    eager_seeds = internals.eager_seed_state()
    return {
        "python": _to_array(random.getstate()),
        "numpy": np.random.get_state(legacy=False),
        "tensorflow": None if generator is None else generator.state.numpy(),
        "eager_seeds": None if eager_seeds is None else _to_array(eager_seeds),
        "keras": None if seed is None else seed.numpy(),
    }


def check_random_state(state: object) -> None:
    """Check a random state from a store, by setting generators that nothing uses to it.

    Raises:
        InvalidState: a generator does not take it.
    """
    states = check_fields(state, dict.fromkeys(_GENERATORS, Any))
    try:
        unused = random.Random()  # noqa: S311 # nosec B311 # no secret depends on it
        unused.setstate(_to_tuple(states["python"]))
        np.random.RandomState().set_state(states["numpy"])
        if states["eager_seeds"] is not None:
            unused.setstate(_to_tuple(states["eager_seeds"]))
        for name, sizes in _SEED_SIZES.items():
            seed = states[name]
            if seed is not None and (
                seed.dtype.kind not in "iu" or seed.shape not in {(n,) for n in sizes}
            ):
                raise InvalidState(f"{name} is {seed.dtype} of shape {list(seed.shape)}")
    except Exception as error:  # NumPy's own checks raise IndexError, for example
        reason = shorten(f"{type(error).__name__}: {error}", 200)
        raise InvalidState(f"its random state can't be restored: {reason}") from error


def restore_random_state(state: dict[str, Any]) -> None:
    """Restore all generators to a state from `capture_random_state`.

    Python's comes last: Keras draws from it when its own generator has to be created.
    """
    if state["keras"] is not None:
        internals.make_global_seed_variable().assign(state["keras"])
    if state["tensorflow"] is not None:
        _set_global_generator(state["tensorflow"])
    if state["eager_seeds"] is not None:
        internals.set_eager_seed_state(_to_tuple(state["eager_seeds"]))
    np.random.set_state(state["numpy"])
    random.setstate(_to_tuple(state["python"]))


def _to_array(state: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the state of a `random.Random` with its 625 words of 32 bits as an array."""
    version, words, gauss = state
    return version, np.array(words, np.uint32), gauss


def _to_tuple(state: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the state as `random.Random` takes it; 0.1.0 has stored it as that."""
    version, words, gauss = state
    return version, tuple(words.tolist()) if isinstance(words, np.ndarray) else words, gauss


def _set_global_generator(state: Array) -> None:
    if (generator := internals.global_generator()) is not None:
        generator.state.assign(state)
        return
    tf.random.set_global_generator(tf.random.Generator.from_state(state, "philox"))
