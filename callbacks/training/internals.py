"""The private names of Keras and TensorFlow that keepfit uses, each with its reason.

Those of a single callback class of Keras stand in its adapter, in callbacks/adapters/. No other
file uses any (tests/test_rooms.py).
tests/training/test_internals.py fails when a new version changes one of them.
"""

from __future__ import annotations

import re
import sys
from types import FrameType
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.common import global_state
from tensorflow.python.data.ops import cache_op, shuffle_op
from tensorflow.python.eager import context
from tensorflow.python.ops import stateful_random_ops


def set_initial_epoch(model: keras.Model, epoch: int | None) -> None:
    """Make the `fit` under way start at `epoch`; None gives the argument of `fit` its say again.

    `fit` reads it once, after `on_train_begin`; BackupAndRestore does the same. It has to be
    cleared, or the next `fit` of this model would skip its epochs as well.
    """
    model._initial_epoch = epoch


def layers_of(model: keras.Model) -> list[keras.layers.Layer]:
    """The model and all layers in it, at any depth. Model.layers has the topmost only."""
    return list(model._flatten_layers())


def add_steps_seen(steps: int) -> None:
    """Tell the `fit` that calls this that its iterator has given so many steps more.

    With `steps_per_epoch`, one iterator may serve several epochs; `fit` counts its steps, to make
    another one when the data has been read. Only a local variable of it leads to the count.
    """
    _local_of_fit("epoch_iterator")._steps_seen += steps


def callbacks_of_fit() -> list[keras.callbacks.Callback]:
    """All callbacks of the `fit` that calls this: it tells none of them about the others."""
    found: list[keras.callbacks.Callback] = _local_of_fit("callbacks").callbacks
    return found


def input_adapter_of_fit() -> str:
    """The class that Keras has chosen for the input of the `fit` that calls this."""
    return type(_local_of_fit("epoch_iterator").data_adapter).__name__


def shuffles_within_batches_of_fit() -> bool:
    """Whether the `fit` that calls this was given arrays and shuffle="batch"."""
    adapter = _local_of_fit("epoch_iterator").data_adapter
    return getattr(adapter, "_shuffle", None) == "batch"


def py_dataset_of_fit() -> keras.utils.PyDataset | None:
    """The input of the `fit` that calls this, if Keras asks it for batches by their numbers."""
    return getattr(_local_of_fit("epoch_iterator").data_adapter, "py_dataset", None)


def _local_of_fit(name: str) -> Any:
    frame: FrameType | None = sys._getframe()
    while frame and not (
        frame.f_code.co_name == "fit"
        and name in frame.f_locals
        and frame.f_globals["__name__"].startswith("keras.")
    ):
        frame = frame.f_back
    if frame is None:
        raise LookupError(f"no fit of Keras that has {name!r} calls this")
    return frame.f_locals[name]


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


def seed_paths(state: bytes) -> frozenset[bytes]:
    """The paths of the datasets whose seeds for the epochs to come a serialised state holds.

    The seeds belong to the dataset, but only the state of a living iterator holds them: a shuffle
    below another one begins to live at the first batch, and a batch or map dataset lets go of its
    input as soon as that has ended. Each iterator writes its keys under its path,
    `Iterator::Root::Prefetch::BatchV2::Shuffle@@key`.
    """
    return frozenset(_SEEDS.findall(state))


_SEEDS = re.compile(rb"(Iterator::[\w:\[\]]+)@@epoch_num_random_samples")


def count_shuffles(iterator: Any) -> int:
    """Datasets below the iterator that keep seeds of their own, without those in functions."""
    return sum(isinstance(d, shuffle_op._ShuffleDataset) for d in _datasets(iterator))


def has_cache(iterator: Any) -> bool:
    """Whether states of the iterator would hold all that the cache has collected."""
    return any(isinstance(d, cache_op.CacheDataset) for d in _datasets(iterator))


def _datasets(iterator: Any) -> list[Any]:
    """All that the iterator's dataset is made of, each as often as it is used."""
    dataset = getattr(iterator, "_dataset", None)
    found = [] if dataset is None else [dataset]
    for dataset in found:
        found.extend(dataset._inputs())
    return found


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
    """Undo what has been drawn from it since, if the script has set a global seed.

    The kernels that eager ops have left in the cache were seeded before, and go on from there.
    """
    if (rng := getattr(context.context(), "_rng", None)) is not None:
        rng.setstate(state)
        context.context().clear_kernel_cache()


def global_generator() -> tf.random.Generator | None:
    """TensorFlow's global generator, if the script uses it.

    The public function makes one where there is none, and refuses to with deterministic ops.
    """
    return stateful_random_ops.global_generator


_GLOBAL_SEED_GENERATOR = "global_seed_generator"
"""Keras' constant of this name is new in 3.13; before, Keras wrote the name out in two places."""


def global_seed_variable() -> keras.Variable | None:
    """The state of the generator behind `keras.random` without a seed; None if it is unused."""
    generator = global_state.get_global_attribute(_GLOBAL_SEED_GENERATOR)
    return None if generator is None else generator.state


def make_global_seed_variable() -> keras.Variable:
    """The same, created if this process has not used it yet."""
    return keras.src.random.seed_generator.global_seed_generator().state
