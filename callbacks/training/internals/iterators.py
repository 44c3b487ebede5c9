"""The iterators of tf.data and of distribution strategies, and their states."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import tensorflow as tf
from tensorflow.python.data.ops import cache_op, shuffle_op

from keepfit.callbacks.training.internals.datasets import (
    datasets_and_caches,
    hidden_state_of_dataset,
    hides_randomness,
)

_STATE = "_STATE"
"""The name of an iterator's state in what it saves and restores."""


def iterator_state(iterator: Any) -> tf.Tensor | None:
    """Return the iterator's state as an immutable variant tensor; None where it can't be saved.

    tf.train.Checkpoint makes the same call, but its public API writes files, which blocks the
    training thread for the serialisation as well: five times as long.
    """
    if not isinstance(iterator, tf.data.Iterator):
        return None
    try:
        state: tf.Tensor = iterator._serialize_to_tensors()[_STATE]
    except (tf.errors.FailedPreconditionError, tf.errors.UnimplementedError):
        return None
    return state


def restore_iterator(iterator: Any, state: tf.Tensor) -> None:
    """Set the iterator to `state`.

    Raises:
        tf.errors.OpError: the state belongs to a different pipeline.
    """
    iterator._restore_from_tensors({_STATE: state})


def seed_paths(state: bytes) -> frozenset[bytes]:
    """Return the paths of the datasets whose seeds for later epochs are in a serialised state.

    The seeds belong to the dataset, but only the state of an existing iterator contains them: the
    iterator of a shuffle below another one is created at the first batch, and a batch or map
    dataset releases its input as soon as that has ended. Each iterator writes its keys under its
    path, `Iterator::Root::Prefetch::BatchV2::Shuffle@@key`. Shuffles below a cache are left out, as
    in `count_shuffles`.
    """
    return frozenset(path for path in _SEEDS.findall(state) if b"Cache" not in path)


_SEEDS = re.compile(rb"(Iterator::[\w:\[\]]+)@@epoch_num_random_samples")


def count_shuffles(iterator: Any) -> int:
    """Count the datasets below the iterator that have seeds of their own.

    Not counted are those in functions, and those below a cache: once it is filled, they are not
    used again, and a resumed process fills it in the order of their first epoch, as the first
    attempt did.
    """
    return sum(
        isinstance(dataset, shuffle_op._ShuffleDataset) and cache is None
        for dataset, cache in datasets_and_caches(getattr(iterator, "_dataset", None))
    )


def has_cache(iterator: Any) -> bool:
    """Return True if states of the iterator would contain everything in a cache."""
    return any(isinstance(d, cache_op.CacheDataset) for d in _datasets(iterator))


def _datasets(iterator: Any) -> list[Any]:
    """Return the iterator's dataset and all its inputs, each as often as it is used."""
    found = datasets_and_caches(getattr(iterator, "_dataset", None))
    return [dataset for dataset, _ in found]


def has_hidden_state(iterator: Any) -> bool:
    """Return whether functions of the iterator's pipeline have state that can't be saved.

    Those of the dataset that Keras builds from arrays are not meant: see has_hidden_randomness.
    """
    dataset = getattr(iterator, "_dataset", None)
    return not has_hidden_randomness(iterator) and bool(hidden_state_of_dataset(dataset))


def distributed_datasets(iterator: Any) -> list[tf.data.Dataset]:
    """Return the datasets that a strategy's iterator reads, one for each worker of this process.

    Other iterators have none.
    """
    if not isinstance(iterator, tf.distribute.DistributedIterator):
        return []
    return [worker._dataset for worker in iterator._iterators]


def renew_distributed_iterator(iterator: Any) -> None:
    """Replace what a strategy's iterator reads from by new iterators over the same datasets.

    `fit` keeps the iterator itself in a local variable of a generator function.
    """
    for worker in iterator._iterators:
        worker._make_iterator()


def feed_distributed_iterator(iterator: Any, source: tf.data.Dataset) -> None:
    """Make a strategy's iterator, in a process with one worker, read from another dataset."""
    (worker,) = iterator._iterators
    own, worker._dataset = worker._dataset, source
    worker._make_iterator()
    worker._dataset = own


def devices_of_distributed_iterator(iterator: Any) -> int:
    """Return the number of devices that share each batch of a strategy's iterator."""
    return sum(len(worker._devices) for worker in iterator._iterators)


def draws_hidden_numbers(datasets: Iterable[Any]) -> bool:
    """Return True if one of the datasets is marked as `has_hidden_randomness` describes."""
    return any(hides_randomness(dataset) for dataset in datasets)


def can_be_saved(dataset: Any) -> bool:
    """Return True if iterators of the dataset have a state that can be saved."""
    return iterator_state(iter(dataset)) is not None


def probe(dataset: Any) -> tf.data.Iterator:
    """Return an iterator for a look at its state, of input that can't be saved too."""
    options = tf.data.Options()
    options.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
    return iter(dataset.with_options(options))


def is_endless(iterator: Any) -> bool:
    """Return True if the dataset repeats for ever, so that no part of it is ever released.

    A strategy distributes batches by a dataset that does not tell; its iterator does.
    """
    if isinstance(iterator, tf.distribute.DistributedIterator):
        return bool(iterator._cardinality == tf.data.INFINITE_CARDINALITY)
    dataset = getattr(iterator, "_dataset", None)
    return dataset is not None and int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY


def has_hidden_randomness(iterator: Any) -> bool:
    """Return True if the dataset draws random numbers that its state does not contain.

    Keras marks the dataset that it builds from arrays in this way: the permutation of an epoch is
    drawn with the first batch, and is part of the state only from then on.
    """
    dataset = getattr(iterator, "_dataset", None)
    return dataset is not None and hides_randomness(dataset)
