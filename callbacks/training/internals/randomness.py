"""The random generators of TensorFlow and Keras."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.common import global_state
from tensorflow.python.eager import context
from tensorflow.python.ops import stateful_random_ops


def eager_seed_state() -> tuple[Any, ...] | None:
    """Return the state of the generator that seeds eager ops; None if no global seed was set."""
    rng = getattr(context.context(), "_rng", None)
    return None if rng is None else rng.getstate()


def set_eager_seed_state(state: tuple[Any, ...]) -> None:
    """Restore the state of the generator that seeds eager ops, if a global seed was set.

    Kernels that eager ops have left in the cache were seeded from the state before, so the cache
    is cleared.
    """
    if (rng := getattr(context.context(), "_rng", None)) is not None:
        rng.setstate(state)
        context.context().clear_kernel_cache()


def global_generator() -> tf.random.Generator | None:
    """Return TensorFlow's global generator; None if the script does not use it.

    The public function creates one if there is none, and raises an error with deterministic ops.
    """
    return stateful_random_ops.global_generator


_GLOBAL_SEED_GENERATOR = "global_seed_generator"
"""Keras has a constant of this name since 3.13; before that, two places had the literal."""


def global_seed_variable() -> keras.Variable | None:
    """Return the state of `keras.random`'s generator for calls without a seed; None if unused."""
    generator = global_state.get_global_attribute(_GLOBAL_SEED_GENERATOR)
    return None if generator is None else generator.state


def make_global_seed_variable() -> keras.Variable:
    """Return the same state; create the generator if this process has not used it yet."""
    return keras.src.random.seed_generator.global_seed_generator().state
