"""The check of a model's configuration before Keras builds the model from it.

The configuration comes from a store, and Keras imports and calls what it names. Newer versions of
Keras refuse what is not theirs; the older ones that keepfit supports do not (CVE-2025-1550,
CVE-2025-8747). So each object is looked up here first, and has to be a part of a model.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

_FUNCTIONS = frozenset(
    f"keras.{name}"
    for name in (
        "activations",
        "constraints",
        "initializers",
        "losses",
        "metrics",
        "ops",
        "regularizers",
    )
)
"""Modules whose functions a configuration may name."""

_OTHER_CODE = frozenset(
    {"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "__lambda__"}
)
"""Classes that run or load code that is not Keras' own."""

_DATA = frozenset({"__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__"})
"""Names that Keras uses for values instead of objects."""

_FILE_OPTIONS = ("vocabulary", "idf_weights")
"""Options of preprocessing layers that may be the path of a file, which is then read."""


class UnsafeConfig(ValueError):
    """The configuration names something that is not a part of a model, or a file."""


def check_config(config: Any) -> None:
    """Check all objects in a configuration.

    Raises:
        UnsafeConfig: one of them is not a part of a model.
    """
    match config:
        case {"class_name": name, **rest}:
            _check_object(name, rest.get("module"), rest.get("config"))
            check_config({key: value for key, value in rest.items() if key != "module"})
        case Mapping():
            for option in _FILE_OPTIONS:
                if isinstance(config.get(option), str):
                    raise UnsafeConfig(f"its {option} would be read from a file")
            for value in config.values():
                check_config(value)
        case list():
            for value in config:
                check_config(value)


def _check_object(name: Any, module: Any, config: Any) -> None:
    if name in _OTHER_CODE:
        raise UnsafeConfig(f"{name} runs code that is not a part of Keras")
    if name in _DATA and module is None:
        return
    if name == "function":
        if module not in (_FUNCTIONS | {"builtins"}) or not isinstance(config, str):
            raise UnsafeConfig(f"it names the function {config!r} of {module!r}")
        return
    if not isinstance(name, str) or not _is_part_of_model(str(module), name):
        raise UnsafeConfig(f"{module}.{name} is not a part of a model")


def _is_part_of_model(module: str, name: str) -> bool:
    """Return whether a class of Keras is one of those that models consist of."""
    import keras

    parts: tuple[type, ...] = (
        keras.Layer,
        keras.Operation,
        keras.Loss,
        keras.Metric,
        keras.Optimizer,
        keras.DTypePolicy,
        keras.Initializer,
        keras.Regularizer,
        keras.constraints.Constraint,
        keras.optimizers.schedules.LearningRateSchedule,
        keras.random.SeedGenerator,
    )
    if module != "keras" and not module.startswith("keras."):
        return False
    try:
        found = getattr(importlib.import_module(module), name, None)
    except (ImportError, ValueError):
        return False
    return isinstance(found, type) and issubclass(found, parts)
