"""The structure of a batch as JSON values, so that a model can be built before data is read."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def spec_to_json(spec: Any) -> Any:
    """Return a nest of TensorSpec, RaggedTensorSpec, SparseTensorSpec and None as JSON values.

    Raises:
        TypeError: the nest contains a value of another type.
    """
    match spec:
        case tf.TensorSpec():
            return {"kind": "tensor", **_shape_and_type(spec)}
        case tf.RaggedTensorSpec():
            splits = spec.row_splits_dtype.name
            return {
                "kind": "ragged",
                **_shape_and_type(spec),
                "rank": spec.ragged_rank,
                "splits": splits,
            }
        case tf.SparseTensorSpec():
            return {"kind": "sparse", **_shape_and_type(spec)}
        case tf.OptionalSpec() | None:
            return {"kind": "none"}
        case dict():
            return {
                "kind": "dict",
                "items": {key: spec_to_json(item) for key, item in spec.items()},
            }
        case tuple() | list():
            return {"kind": type(spec).__name__, "items": [spec_to_json(item) for item in spec]}
    raise TypeError(f"a batch contains a {type(spec).__name__}")


def spec_from_json(plain: dict[str, Any]) -> Any:
    """Return the nest that `spec_to_json` was given; a named tuple is returned as a tuple."""
    match plain["kind"]:
        case "tensor":
            return tf.TensorSpec(plain["shape"], plain["dtype"])
        case "ragged":
            return tf.RaggedTensorSpec(
                plain["shape"],
                tf.as_dtype(plain["dtype"]),
                plain["rank"],
                tf.as_dtype(plain["splits"]),
            )
        case "sparse":
            return tf.SparseTensorSpec(plain["shape"], tf.as_dtype(plain["dtype"]))
        case "none":
            return tf.OptionalSpec(None)
        case "dict":
            return {key: spec_from_json(item) for key, item in plain["items"].items()}
        case kind:
            items = [spec_from_json(item) for item in plain["items"]]
            return items if kind == "list" else tuple(items)


def _shape_and_type(spec: Any) -> dict[str, Any]:
    shape = spec.shape
    return {
        "shape": None if shape.rank is None else shape.as_list(),
        "dtype": spec.dtype.name,
    }
