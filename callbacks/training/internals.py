"""Every private attribute of Keras and TensorFlow that keepfit touches, and why.

tests/training/test_internals.py fails when a new version changes one of them.
"""

from __future__ import annotations

import re
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR
from tensorflow.python.eager import context
from tensorflow.python.ops import stateful_random_ops


def set_initial_epoch(model: keras.Model, epoch: int | None) -> None:
    """Make the `fit` under way start at `epoch`; None gives the argument of `fit` its say again.

    `fit` reads it once, after `on_train_begin`; BackupAndRestore does the same. It has to be
    cleared, or the next `fit` of this model would skip its epochs as well.
    """
    model._initial_epoch = epoch


def iterator_state(iterator: Any) -> tf.Tensor | None:
    """The iterator's state as a variant tensor, immutable; None where it can't be saved.

    The same call as in tf.train.Checkpoint, whose public form writes files and so keeps the
    training thread for the serialisation too, five times as long.
    """
    if not isinstance(iterator, tf.data.Iterator):
        return None
    try:
        (state,) = iterator._serialize_to_tensors().values()
    except (tf.errors.FailedPreconditionError, tf.errors.UnimplementedError):
        return None
    return state


def restore_iterator(iterator: Any, state: tf.Tensor) -> None:
    """Put the iterator to where `state` was taken. Raises tf.errors.OpError if it is of another."""
    (name,) = iterator._serialize_to_tensors().keys()
    iterator._restore_from_tensors({name: state})


def has_all_parts(state: bytes, *, of: bytes) -> bool:
    """Whether a serialised iterator state still has every dataset that another one has.

    A batch or map dataset lets go of its input when that has ended, and a shuffle below it is
    then not saved, though the seeds of its next epochs are in it. Each dataset writes its keys
    under the path of its iterator, `Iterator::Root::Prefetch::BatchV2::Shuffle@@seed`.
    """
    return _parts(of) <= _parts(state)


def _parts(state: bytes) -> set[bytes]:
    """The iterators' paths, and with them what lies between a path and the next `@@`.

    That is more than the paths alone, on purpose: a state that is not told to be whole costs a
    few batches to be read again, one that wrongly is told to be costs exactness.
    """
    return {path for path in re.findall(rb"Iterator::[^@]+(?=@@)", state) if b":buffer" not in path}


def is_endless(iterator: Any) -> bool:
    """Whether the dataset repeats for ever, so that no part of it is ever let go of."""
    dataset = getattr(iterator, "_dataset", None)
    return dataset is not None and int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY


def has_hidden_randomness(iterator: Any) -> bool:
    """Whether the dataset draws random numbers that its state does not hold.

    Keras marks the dataset that it builds from arrays so: the permutation of an epoch is drawn
    with the first batch, and only from then on part of the state.
    """
    dataset = getattr(iterator, "_dataset", None)
    if dataset is None:
        return False
    policy = dataset.options().experimental_external_state_policy
    return bool(policy == tf.data.experimental.ExternalStatePolicy.IGNORE)


def eager_seed_state() -> tuple[Any, ...] | None:
    """The state of the generator that seeds eager random ops; None if no global seed was set."""
    rng = getattr(context.context(), "_rng", None)
    return None if rng is None else rng.getstate()


def set_eager_seed_state(state: tuple[Any, ...]) -> None:
    """Undo what has been drawn from it since, if the script has set a global seed."""
    if (rng := getattr(context.context(), "_rng", None)) is not None:
        rng.setstate(state)


def global_generator() -> tf.random.Generator | None:
    """TensorFlow's global generator, if the script uses it.

    The public function makes one where there is none, and refuses to with deterministic ops.
    """
    return stateful_random_ops.global_generator


def global_seed_variable() -> keras.Variable | None:
    """The state of the generator behind `keras.random` without a seed; None if it is unused."""
    generator = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
    return None if generator is None else generator.state


def make_global_seed_variable() -> keras.Variable:
    """The same, created if this process has not used it yet."""
    return keras.src.random.seed_generator.global_seed_generator().state
