"""The input of a `fit`, as Keras holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from keepfit.callbacks.training.internals.frames import frame_of_fit, local_of_fit


def input_adapter_of_fit() -> str:
    """Return the class name of Keras' data adapter for the input of the calling `fit`."""
    return type(local_of_fit("epoch_iterator").data_adapter).__name__


def shuffles_within_batches_of_fit() -> bool:
    """Return True if the calling `fit` was given arrays and shuffle="batch"."""
    adapter = local_of_fit("epoch_iterator").data_adapter
    return getattr(adapter, "_shuffle", None) == "batch"


def py_dataset_of_fit() -> keras.utils.PyDataset | None:
    """Return the input of the calling `fit` if it is a PyDataset, which Keras reads by index."""
    return getattr(local_of_fit("epoch_iterator").data_adapter, "py_dataset", None)


@dataclass(frozen=True)
class FitData:
    """The input of one `fit` call, as Keras holds it.

    Attributes:
        adapter: class name of Keras' data adapter.
        train: the nest of arrays, the dataset or the PyDataset; None for input of another kind.
        validation: `(x, y, sample_weight)`, of which x may be a dataset; None without validation.
        class_weight, steps_per_epoch, validation_steps, validation_freq: the arguments of `fit`.
        shuffle: the argument of `fit`, where Keras shuffles itself.
        batch_size, rows: as far as the adapter knows them.
        batches: batches in an epoch; None if unknown.
        steps_per_execution: batches that each call of the train function reads.
        element_spec: the structure of a batch, before it is distributed to replicas.
        validation_batch_size: the argument of `fit`, or the batch size that Keras takes instead.
    """

    adapter: str
    train: Any
    validation: tuple[Any, Any, Any] | None
    class_weight: Mapping[int, float] | None
    shuffle: bool | str | None
    batch_size: int | None
    rows: int | None
    batches: int | None
    steps_per_epoch: int | None
    steps_per_execution: int
    element_spec: Any
    validation_steps: int | None
    validation_batch_size: int | None
    validation_freq: Any


def data_of_fit() -> FitData:
    """Return the input of the calling `fit`; takes microseconds, and reads no data."""
    frame = frame_of_fit("epoch_iterator").f_locals
    iterator = frame["epoch_iterator"]
    adapter = iterator.data_adapter
    dataset = undistributed(iterator._distributed_dataset)
    own = dataset if isinstance(dataset, tf.data.Dataset) else None
    given = [getattr(adapter, name, None) for name in ("_inputs", "py_dataset")]
    train = next((each for each in given if each is not None), None)
    is_dataset = type(adapter).__name__ == "TFDatasetAdapter"
    validation = None
    if frame.get("validation_data") is not None:
        validation = (frame["val_x"], frame["val_y"], frame["val_sample_weight"])
    return FitData(
        type(adapter).__name__,
        own if is_dataset else train,
        validation,
        frame["class_weight"],
        getattr(adapter, "_shuffle", getattr(adapter, "shuffle", None)),
        batch_size_of_dataset(own) if is_dataset else adapter.batch_size,
        getattr(adapter, "_num_samples", None),
        iterator.num_batches,
        iterator.steps_per_epoch,
        iterator.steps_per_execution,
        getattr(dataset, "element_spec", None),
        frame["validation_steps"],
        frame["validation_batch_size"] or frame["batch_size"],
        frame["validation_freq"],
    )


def undistributed(dataset: Any) -> Any:
    """Return the dataset from which a strategy has made a distributed one, else the same."""
    if isinstance(dataset, tf.distribute.DistributedDataset):
        return getattr(dataset, "_original_dataset", dataset)
    return dataset


def batch_size_of_dataset(dataset: Any) -> int | None:
    """Return the size of a pipeline's batches, if it has no branches after `batch`."""
    while isinstance(dataset, tf.data.Dataset):
        if type(dataset).__name__ in _BATCHES:
            return int(dataset._batch_size)
        inputs = dataset._inputs()
        dataset = inputs[0] if len(inputs) == 1 else None
    return None


_BATCHES = ("_BatchDataset", "_ParallelBatchDataset", "_PaddedBatchDataset")
