"""Random operations in the graph of the train step whose state can't be saved.

`tf.random.normal` in a graph keeps its state in a kernel of TensorFlow, to which there is no
access: in a resumed process it starts over. Keras' own layers draw by seed generators, whose states
are variables. The graph is the one that the first batch would trace, and is traced a moment before
it, so that nothing has been trained when such an operation is found.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keepfit.callbacks import events
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.training import internals, variables

EXAMPLES = 3
"""Number of places that the log names."""

_LIBRARIES = tuple(
    f"{Path(each).parent}{os.sep}"
    for each in (tf.__file__, keras.__file__, tf.nest.__file__)
    if each
)


def report_random_state(
    model: keras.Model, train_function: Any, iterator: Any, guard: ExactnessGuard
) -> None:
    """Trace the train function, and report the random operations whose state can't be saved.

    Args:
        train_function: the one that Keras has made; with `run_eagerly` it has no graph, and the
            seeds of its operations are kept.
        iterator: the iterator with which it is called next.

    Raises:
        Refused: there are some, and the training has to be exact.
    """
    graph = internals.trace_train_function(train_function, iterator)
    if graph is None:
        return
    ops = internals.random_ops_of_graph(graph)
    ops += internals.generator_ops_of_graph(graph, variables.generators(model))
    places = list(dict.fromkeys(describe(op, _layer_names(model)) for op in ops))
    if not places:
        return
    more = f" and {len(places) - EXAMPLES} more" if len(places) > EXAMPLES else ""
    guard.report(
        events.RANDOM_STATE_HIDDEN,
        operations=places[:EXAMPLES],
        reason="random operations in the graph of the train step have state that can't be saved: "
        f"{'; '.join(places[:EXAMPLES])}{more}; after an interruption they start over",
        fix="draw with keras.random and a keras.random.SeedGenerator that is an attribute of the "
        "layer or model",
    )


def describe(op: tf.Operation, layers: Collection[str]) -> str:
    """Return the type of an operation, and the layer or else the place in the user's code."""
    scopes = [scope for part in reversed(op.name.split("/")[:-1]) for scope in _names(part)]
    layer = next((scope for scope in scopes if scope in layers), None)
    place = _place(op)
    where = f"layer {layer!r}" if layer else place[0] if place else "the train step"
    return f"{op.type} in {where}" + (f" ({place[1]})" if place else "")


def _layer_names(model: keras.Model) -> set[str]:
    return {layer.name for layer in internals.layers_of(model) if layer is not model}


def _names(scope: str) -> tuple[str, str]:
    """Return a scope's name, and the name without the number that TensorFlow may have added."""
    return scope, re.sub(r"_\d+$", "", scope)


def _place(op: tf.Operation) -> tuple[str, str] | None:
    """Return the innermost function outside of TensorFlow and Keras, and its file and line."""
    frames: Sequence[Any] = list(op.traceback)
    for frame in reversed(frames):
        if not frame.filename.startswith(_LIBRARIES):
            return frame.name, f"{Path(frame.filename).name}, line {frame.lineno}"
    return None
