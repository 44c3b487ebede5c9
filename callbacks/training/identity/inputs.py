"""The input of a `fit` call, and a digest of its content that a later process can compare.

The digest is of what the input is made of, not of the batches that come from it: no batch is read,
no iterator created, no random number drawn. It includes

- arrays, tensors and data frames: their structure, types, shapes and every number;
- tf.data: the pipeline's datasets, the arrays in them, and the ops of their functions, without
  seeds: a dataset made later in a process gets another one from the same global seed. Files count
  by their names. Nothing is known of Python functions and generators, variables and tables;
- a PyDataset: its class, length, and public attributes: plain values, paths, arrays, and lists of
  them. What its hooks `on_epoch_begin` and `on_epoch_end` use may have been changed by an earlier
  fit, which a later attempt skips: lists and arrays among these count without their order, and
  numbers that the hooks assign do not count. Random generators do not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from keepfit.callbacks.training import internals
from keepfit.callbacks.training.identity import datasets, py_datasets
from keepfit.callbacks.training.identity.hashing import ContentHash


@dataclass(frozen=True)
class FitInput:
    """References to the input of one `fit` call: drop it when it is digested, it may be large.

    Attributes:
        data: the input as Keras holds it.
        attributes: the attributes of a PyDataset at the start of the fit.
        replicas: number of replicas that share a batch.
    """

    data: internals.FitData
    attributes: Mapping[str, Any]
    replicas: int

    @classmethod
    def current(cls, model: keras.Model) -> FitInput:
        """Return the input of the `fit` in which the calling code runs; takes under 1 ms."""
        data = internals.data_of_fit()
        is_py_dataset = isinstance(data.train, keras.utils.PyDataset)
        attributes = dict(vars(data.train)) if is_py_dataset else {}
        return cls(data, attributes, model.distribute_strategy.num_replicas_in_sync)


@dataclass(frozen=True)
class InputContent:
    """What is known of an input's content.

    Attributes:
        digest: 64 hexadecimal digits; None if nothing is known of the train input.
        unknown: the parts that the digest leaves out, in words: equal digests do not mean that
            these are equal.
    """

    digest: str | None
    unknown: tuple[str, ...] = ()


def content_digest(fit_input: FitInput) -> str | None:
    """Return the digest of `input_content`."""
    return input_content(fit_input).digest


def input_content(fit_input: FitInput) -> InputContent:
    """Digest the input's content. Takes seconds a GiB, on any thread but that of training."""
    content = ContentHash()
    data = fit_input.data
    if data.train is None:
        return InputContent(None, (f"the input ({data.adapter})",))
    if not _add(content, "the input", data.train, data.batches, fit_input.attributes):
        return InputContent(None, tuple(content.unknown))
    content.add("class_weight", data.class_weight)
    if data.validation is None:
        content.add_text("no validation")
    else:
        x, y, weights = data.validation
        _add(content, "the validation data", x, None, None)
        content.add("the validation labels", (y, weights))
    return InputContent(content.hexdigest(), tuple(content.unknown))


def _add(
    content: ContentHash,
    name: str,
    value: Any,
    batches: int | None,
    attributes: Mapping[str, Any] | None,
) -> bool:
    """Add an input of any kind; return False if nothing is known of its content."""
    value = internals.undistributed(value)
    if isinstance(value, tf.data.Dataset):
        return datasets.add(content, name, value)
    if isinstance(value, keras.utils.PyDataset):
        own = dict(vars(value)) if attributes is None else attributes
        py_datasets.add(content, name, type(value), batches, own)
        return True
    if not isinstance(value, list | tuple | dict) and not _is_array(value):
        content.add_text("unknown")
        content.unknown.append(f"{name} ({type(value).__name__})")
        return False
    content.add(name, value)
    return True


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") or hasattr(value, "__array__")
