"""What a model and its compilation are, independent of the names that Keras generates.

The description contains what `fit` depends on: layers with their configuration and connections,
losses, metrics, and the optimizers with their hyperparameters. Names of layers do not matter: Keras
numbers them through the whole process, so that they depend on the models made before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

import keras

from keepfit.callbacks.training import internals

_INDEPENDENT = frozenset({"build_config", "compile_config", "shared_object_id", "registered_name"})
"""Keys of a serialised object that depend on the process, or are described elsewhere."""


def describe_compilation(model: keras.Model) -> str:
    """Return the optimizers, losses and metrics as JSON.

    Call this on the training thread: training changes the hyperparameters of an optimizer.
    """
    compilation = _or_none(model.get_compile_config) or {}
    optimizers = [_serialized(optimizer) for optimizer in _optimizers(model)]
    described = {k: v for k, v in compilation.items() if k != "optimizer"}
    return _canonical_json({"compile": described, "optimizers": optimizers})


def describe_architecture(model: keras.Model) -> str:
    """Return the layers, their configuration and their connections as JSON.

    A model whose class has no `get_config` is described by its layers.
    """
    layers = internals.layers_of(model)
    config = _or_none(model.get_config)
    if not isinstance(config, dict) or not config.get("layers"):
        config = {"model": config, "layers": [_serialized(layer) for layer in layers[1:]]}
    functions = [_describe_function(layer) for layer in layers]
    return _canonical_json({"kind": _kind(model), "config": config, "functions": functions})


def digest_text(*texts: str) -> str:
    """Return the SHA-256 of texts, hexadecimal."""
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def _optimizers(model: keras.Model) -> Iterator[keras.optimizers.Optimizer]:
    """Yield the model's optimizers: Keras' own, and those of a custom train step."""
    found = [getattr(model, "optimizer", None), *vars(model).values()]
    seen = set[int]()
    for value in found:
        if isinstance(value, keras.optimizers.Optimizer) and id(value) not in seen:
            seen.add(id(value))
            yield value


def _serialized(value: Any) -> Any:
    described = _or_none(lambda: keras.saving.serialize_keras_object(value))
    return _kind(value) if described is None else described


def _or_none(call: Callable[[], Any]) -> Any:
    """Return the result; None if the configuration can't be had."""
    try:
        return call()
    except Exception:  # noqa: BLE001 # get_config is the user's, and may raise anything
        return None


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _describe_function(layer: keras.layers.Layer) -> str | None:
    """Return a digest of a Lambda layer's function: its serialised form differs by process."""
    code = getattr(getattr(layer, "function", None), "__code__", None)
    return _digest_code(code) if isinstance(code, CodeType) else None


def _digest_code(code: CodeType) -> str:
    constants = [
        _digest_code(constant) if isinstance(constant, CodeType) else repr(constant)
        for constant in code.co_consts
    ]
    return digest_text(code.co_code.hex(), *constants, *code.co_names)


def _canonical_json(described: Any) -> str:
    """Return the description as JSON, without what depends on the process."""
    names: dict[str, str] = {}
    _collect_names(described, names)
    return json.dumps(_canonical(described, names), sort_keys=True, default=_kind)


def _collect_names(value: Any, names: dict[str, str]) -> None:
    """Give each name of a layer, loss or metric a number, in their order."""
    if isinstance(value, dict):
        if isinstance(name := value.get("name"), str):
            names.setdefault(name, f"#{len(names)}")
        for item in value.values():
            _collect_names(item, names)
    elif isinstance(value, list | tuple):
        for item in value:
            _collect_names(item, names)


def _canonical(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        if value.get("class_name") == "__lambda__":
            return "function"
        return {
            str(key): _canonical(item, names)
            for key, item in value.items()
            if key not in _INDEPENDENT
        }
    if isinstance(value, list | tuple):
        return [_canonical(item, names) for item in value if not _is_input_layer(item)]
    return names.get(value, value) if isinstance(value, str) else value


def _is_input_layer(value: Any) -> bool:
    """Return True for an InputLayer: a Sequential adds one when it is built."""
    return isinstance(value, dict) and value.get("class_name") == "InputLayer"
