"""The content of a tf.data pipeline, read without an iterator.

tf.raw_ops.DatasetFingerprint would do the same, but it copies all arrays twice: 4 GiB for 2 GiB of
them, in a process that may have no room for more. So the arrays are digested where they are.
"""

from __future__ import annotations

import tensorflow as tf

from keepfit.callbacks.training import internals
from keepfit.callbacks.training.identity.hashing import ContentHash

_PYTHON_OPS = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})


def add(content: ContentHash, name: str, dataset: tf.data.Dataset) -> bool:
    """Add a pipeline; return False if all its sources are unknown.

    Args:
        name: what to call it in the hash's `unknown`.
    """
    inputs = internals.inputs_of_dataset(dataset)
    content.add_text(f"{type(dataset).__name__} {len(inputs)} {dataset.element_spec}")
    attributes = internals.attributes_of_dataset(dataset)
    if attributes is None:
        return _add_fingerprint(content, name, dataset)
    content.add(name, attributes)
    ops = _add_functions(content, name, dataset)
    if "GeneratorDataset" in ops:
        content.unknown.append(f"{name}: a Python generator")
        return False
    known = [add(content, name, each) for each in inputs]
    return any(known) or not inputs


def _add_functions(content: ContentHash, name: str, dataset: tf.data.Dataset) -> set[str]:
    """Add the functions of one dataset, and return the types of their ops."""
    ops: set[str] = set()
    for op, definition in internals.functions_of_dataset(dataset):
        ops.add(op)
        content.add_text(op)
        content.add(name, definition)
    if ops & _PYTHON_OPS:
        content.unknown.append(f"{name}: a Python function")
    if "resource" in ops:
        content.unknown.append(f"{name}: a variable or table that a function uses")
    return ops


def _add_fingerprint(content: ContentHash, name: str, dataset: tf.data.Dataset) -> bool:
    try:
        content.add_text(str(internals.fingerprint_of_dataset(dataset)))
    except tf.errors.OpError as error:
        content.add_text("unknown")
        content.unknown.append(f"{name}: {type(dataset).__name__} ({type(error).__name__})")
        return False
    return True
