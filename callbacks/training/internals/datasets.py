"""The parts of a tf.data pipeline: its datasets, their attributes and functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import tensorflow as tf
from tensorflow.python.data.ops import cache_op, random_op, shuffle_op

from keepfit.callbacks.training.internals.graphs import is_hidden, nested_graphs


def inputs_of_dataset(dataset: tf.data.Dataset) -> list[tf.data.Dataset]:
    """Return the datasets from which this one reads, that of the names of its files included."""
    names = getattr(dataset, "_filenames", None)
    return [*dataset._inputs(), *([names] if isinstance(names, tf.data.Dataset) else [])]


def fingerprint_of_dataset(dataset: tf.data.Dataset) -> int:
    """Return TensorFlow's fingerprint of a dataset and of everything that it reads from.

    It copies all arrays in it twice, at 10 s a GiB; so it is only for those that Python can't read.
    """
    with tf.device("CPU:0"):
        return int(tf.raw_ops.DatasetFingerprint(input_dataset=dataset._variant_tensor))


def attributes_of_dataset(dataset: tf.data.Dataset) -> dict[str, list[Any]] | None:
    """Return the numbers, texts and arrays that define this dataset beside its inputs.

    Seeds are not among them, nor the paths of caches, which may be temporary. None if the dataset
    has arrays that Python can't read.
    """
    attributes: dict[str, list[Any]] = {}
    if type(dataset).__name__ == "_VariantDataset":
        return None
    for name, value in vars(dataset).items():
        if name in _NOT_CONTENT or "seed" in name:
            continue
        leaves = tf.nest.flatten(value)
        if name == "_tensors" and any(leaf.dtype == tf.variant for leaf in leaves):
            return None
        if all(_is_readable(leaf) for leaf in leaves):
            attributes[name] = leaves
    return attributes


_NOT_CONTENT = ("_name", "_filename", "_path", "_variant_tensor_attr")


def _is_readable(value: Any) -> bool:
    if isinstance(value, tf.Tensor):
        return hasattr(value, "numpy") and value.dtype not in (tf.variant, tf.resource)
    return isinstance(value, bool | int | float | str | None)


def functions_of_dataset(dataset: tf.data.Dataset) -> Iterator[tuple[str, bytes | tf.Tensor]]:
    """Yield the ops of all functions of this dataset, each with its definition.

    The names that TensorFlow numbers within a process, seeds and the numbers of Python functions
    are left out. A captured array comes as "array", a variable or table as "resource".
    """
    graphs = [function.function.graph for function in dataset._functions()]
    for tensor, _ in (capture for graph in graphs for capture in graph.captures):
        if tensor.dtype in (tf.resource, tf.variant):
            yield "resource", b""
        elif hasattr(tensor, "numpy"):
            yield "array", tensor
    for graph in graphs:
        graphs.extend(function.graph for function in graph._functions.values())
        ops = graph.get_operations()
        numbers = {op.name: i for i, op in enumerate(ops)}
        yield from ((op.type, _definition(op, numbers)) for op in ops)


def _definition(op: tf.Operation, numbers: Mapping[str, int]) -> bytes:
    """Return what defines an op within its graph; names of ops are replaced by numbers."""
    definition = op.node_def
    definition.name = ""
    sources = [(numbers[each.op.name], each.value_index) for each in op.inputs]
    control = [numbers[each.name] for each in op.control_inputs]
    definition.input[:] = [str(sources), str(control)]
    for name in ("_gradient_op_type", "seed", "seed2", "token"):
        definition.attr.pop(name, None)
    for value in definition.attr.values():
        # To set a field makes it the value, so only those that are the value are touched.
        functions = [value.func] if value.HasField("func") else []
        functions += value.list.func if value.HasField("list") else []
        for function in functions:
            function.name = ""
    content: bytes = definition.SerializeToString(deterministic=True)
    return content


def datasets_and_caches(dataset: Any) -> list[tuple[Any, Any]]:
    """Return a dataset and all its inputs, each with the outermost cache above it, or None."""
    found = [] if dataset is None else [(dataset, None)]
    for each, cache in found:
        if cache is None and isinstance(each, cache_op.CacheDataset):
            cache = each  # for the inputs of this one
        found.extend((source, cache) for source in each._inputs())
    return found


def reshuffling_datasets(dataset: Any) -> list[tuple[Any, Any]]:
    """Return the shuffles of a pipeline that have another order in each epoch, each one once.

    The second part of each item is the outermost cache above it; None if it is used without one.
    """
    found: dict[int, tuple[Any, Any]] = {}
    for each, cache in datasets_and_caches(dataset):
        if isinstance(each, shuffle_op._ShuffleDataset) and each._reshuffle_each_iteration:
            _, before = found.get(id(each), (each, cache))
            found[id(each)] = (each, before and cache)
    return list(found.values())


def hidden_state_of_dataset(dataset: Any) -> list[str]:
    """Return the types of the ops in a pipeline's functions whose state can't be saved.

    Where such a function is read by the iterator itself, TensorFlow refuses to save the iterator.
    Below a shuffle or in a concatenation it does not, as long as nothing has been read from there.
    """
    graphs = [
        function.function.graph
        for each, _ in datasets_and_caches(dataset)
        for function in each._functions()
    ]
    ops = {
        op.type for graph in nested_graphs(graphs) for op in graph.get_operations() if is_hidden(op)
    }
    return sorted(ops)


def _with_inputs(datasets: Iterable[Any]) -> list[Any]:
    """Return the datasets and all their inputs, each as often as it is used."""
    found = list(datasets)
    for dataset in found:
        found.extend(dataset._inputs())
    return found


def is_shuffle(dataset: Any) -> bool:
    """Return whether a dataset shuffles its input."""
    return isinstance(dataset, shuffle_op._ShuffleDataset)


def seeded_datasets(datasets: Iterable[Any]) -> list[Any]:
    """Return the datasets with a generator of seeds among these and their inputs, each once."""
    found = (d for d in _with_inputs(datasets) if isinstance(d, _SEEDED))
    return list({id(dataset): dataset for dataset in found}.values())


_SEEDED = (shuffle_op._ShuffleDataset, random_op._RandomDataset)


def is_seeded(dataset: Any) -> bool:
    """Return False if a dataset with a generator of seeds draws them from the machine's entropy."""
    return bool(int(dataset._seed) or int(dataset._seed2))


def reads_unknown_datasets(datasets: Iterable[Any]) -> bool:
    """Return True if a dataset reads from one that Python does not know as its input.

    Its function may have captured one, and a dataset from a graph or another device has no inputs.
    """
    return any(
        type(dataset).__name__ in ("_VariantDataset", "_RemoteDataset")
        or any(
            tensor.dtype == tf.variant
            for function in dataset._functions()
            for tensor, _ in function.function.graph.captures
        )
        for dataset in _with_inputs(datasets)
    )


def caches_shuffled_rows(datasets: Iterable[Any]) -> bool:
    """Return True if the rows in a cache have an order that the seeds below it determine."""
    caches = (d for d in _with_inputs(datasets) if isinstance(d, cache_op.CacheDataset))
    return any(map(seeded_datasets, ([cache] for cache in caches)))


def hides_randomness(dataset: Any) -> bool:
    """Return whether a dataset is marked as `has_hidden_randomness` describes."""
    policy = dataset.options().experimental_external_state_policy
    return bool(policy == tf.data.experimental.ExternalStatePolicy.IGNORE)
