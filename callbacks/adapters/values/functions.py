"""Values that are code or process configuration: no state of a training."""

from __future__ import annotations

import csv
import functools
import inspect
import io
import logging
import operator
import re
import types
from typing import Any

import keras
import numpy as np
import tensorflow as tf

_CODE: tuple[type[Any], ...] = (
    type,
    types.ModuleType,
    types.GenericAlias,
    functools.partial,
    functools.partialmethod,
    type(functools.lru_cache(lambda: None)),
    operator.attrgetter,
    operator.itemgetter,
    operator.methodcaller,
    np.ufunc,
    tf.types.experimental.PolymorphicFunction,
    tf.types.experimental.ConcreteFunction,
)
"""Functions in a wide sense; methods and builtins are found by `inspect`."""

_CONFIGURATION: tuple[type[Any], ...] = (
    logging.Logger,
    logging.LoggerAdapter,
    logging.Handler,
    re.Pattern,
    np.dtype,
    tf.DType,
    tf.TypeSpec,
    tf.TensorShape,
    tf.distribute.Strategy,
    keras.KerasTensor,
    keras.DTypePolicy,
    type(csv.writer(io.StringIO())),
)
"""Values that never change, or that the process has rather than the training.

The lines of a `csv.writer` are in its file.
"""


def is_code(value: object) -> bool:
    """Return whether a value is code: the script defines it anew in each attempt."""
    return isinstance(value, (*_CODE, *_CONFIGURATION)) or inspect.isroutine(value)
