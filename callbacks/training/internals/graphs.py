"""Operations with hidden state, in traced functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf


def is_hidden(op: tf.Operation) -> bool:
    """Return whether an op has state that no checkpoint of an input pipeline contains."""
    return op.type in _PYTHON_OPS or op.type.startswith(_CHANGING_OPS) or _is_random(op)


_PYTHON_OPS = ("PyFunc", "EagerPyFunc")


_GENERATOR_OPS = (
    "RngReadAndSkip",
    "RngSkip",
    "StatefulRandom",
    "StatefulStandardNormal",
    "StatefulTruncatedNormal",
    "StatefulUniform",
)
"""Prefixes of ops that draw from a tf.random.Generator, and change its state."""


_CHANGING_OPS = ("Assign", *_GENERATOR_OPS)
"""Prefixes of ops that change a variable: no checkpoint contains those of an input pipeline."""


def _is_random(op: tf.Operation) -> bool:
    """Return whether an op draws random numbers from a state that its kernel contains."""
    attributes = op.node_def.attr
    if "seed" not in attributes or "seed2" not in attributes:
        return False
    # The kernels of recurrent layers have seeds for a dropout, which Keras does not use.
    return not (op.type.startswith("CudnnRNN") and attributes["dropout"].f == 0)


def nested_graphs(graphs: Iterable[Any]) -> list[Any]:
    """Return graphs and those of all functions that they call, each one once."""
    found = {id(graph): graph for graph in graphs}
    waiting = list(found.values())
    for graph in waiting:
        for function in graph._functions.values():
            inner = getattr(function, "graph", None)
            if inner is not None and id(inner) not in found:
                found[id(inner)] = inner
                waiting.append(inner)
    return waiting


def trace_train_function(train_function: Any, iterator: Any) -> tf.Graph | None:
    """Return the graph of the train step, traced but not run; None if it is not a graph.

    The first call of the train function uses the same trace. Keras' function decides by the type of
    its iterator what to call, so the traced function is reachable only through its closure.
    """
    if tf.config.functions_run_eagerly():
        return None
    names = getattr(getattr(train_function, "__code__", None), "co_freevars", ())
    cells = dict(zip(names, getattr(train_function, "__closure__", None) or (), strict=True))
    if cell := cells.get("multi_step_on_iterator"):
        train_function = cell.cell_contents
    if not isinstance(train_function, tf.types.experimental.PolymorphicFunction):
        return None
    if not isinstance(iterator, tf.data.Iterator | tf.distribute.DistributedIterator):
        return None
    graph: tf.Graph = train_function.get_concrete_function(iterator).graph
    return graph


def random_ops_of_graph(graph: tf.Graph) -> list[tf.Operation]:
    """Return the ops of a graph and its functions that have random state of their own."""
    return [op for each in nested_graphs([graph]) for op in each.get_operations() if _is_random(op)]


def generator_ops_of_graph(
    graph: tf.Graph, known: Iterable[tf.random.Generator]
) -> list[tf.Operation]:
    """Return the ops of a graph and its functions that draw from a tf.random.Generator.

    Args:
        known: generators to leave out. If the one of an op can't be told, as with a strategy, it is
            taken for one of these.
    """
    handles = [generator.state.handle for generator in known]
    found = []
    for op in (op for each in nested_graphs([graph]) for op in each.get_operations()):
        if op.type.startswith(_GENERATOR_OPS):
            handle = _captured(op.inputs[0])
            is_known = bool(handles) if handle is None else any(handle is one for one in handles)
            found += [] if is_known else [op]
    return found


def _captured(tensor: Any) -> Any:
    """Return the eager tensor that a graph has captured as `tensor`; None if that is unknown."""
    while tensor is not None and not hasattr(tensor, "numpy"):
        captures = getattr(tensor.graph, "captures", ())
        tensor = next((outer for outer, inner in captures if inner is tensor), None)
    return tensor
