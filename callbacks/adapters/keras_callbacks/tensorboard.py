"""The adapter of TensorBoard: every attempt adds its own event files, and no event is duplicated.

The names of the files contain a tag of the run. It distinguishes the files that a killed attempt
has written since the checkpoint from those that other processes have written into the same folder.

Private names of Keras' TensorBoard, as no public ones exist:
- `_global_train_batch`, `_global_test_batch`: the steps of batch events, otherwise from 0 on;
- `_previous_epoch_iterations`, `_train_accumulated_time`, `_batch_start_time`, `_epoch_start_time`:
  for `write_steps_per_second`;
- `_should_write_train_graph`: the graph is written once;
- `_writers`: to flush them, so that the files have all events of a checkpoint;
- `_summary_module`: replaced by one that names the files;
- `_train_writer`, `_push_writer`, `_pop_writer`, `_prev_summary_state`: the default writer depends
  on the batch, and Keras sets it only when a batch begins.
The others in TensorBoardAdapter's lists are named only so that a new attribute is noticed.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from pydantic import Field

from keepfit.callbacks.adapters.base import State
from keepfit.callbacks.adapters.state_types import Number, StoredPath
from keepfit.callbacks.checkpoint.format.state_schema import Fields, check_fields
from keepfit.callbacks.files.file_helpers import file_size, truncate_file
from keepfit.callbacks.files.paths import differ_only_in_numbers, resolve_first_path

FOLDERS = ("train", "validation")

TAG_BITS = 32
"""Size of the random number that tells the files of a run from those of others."""

_Tag = Annotated[int, Field(ge=0, lt=1 << TAG_BITS)]

_START_TIMES = ("_batch_start_time", "_epoch_start_time")
"""Stored as the seconds that have elapsed since then."""


class TaggedSummaryModule:
    """`tf.summary` with writers that put a tag of the run into the names of their files."""

    def __init__(self, run_tag: int) -> None:
        self.run_tag = run_tag
        self.suffix = f".keepfit-{run_tag:08x}.v2"

    def create_file_writer(self, folder: str) -> Any:
        return tf.summary.create_file_writer(folder, filename_suffix=self.suffix)

    def __getattr__(self, name: str) -> Any:
        return getattr(tf.summary, name)


class TensorBoardAdapter:
    """Adapter for TensorBoard, whose steps start at 0 when it is restarted."""

    state: ClassVar[Fields] = {
        "_global_train_batch": Number,
        "_global_test_batch": Number,
        "_previous_epoch_iterations": Number,
        "_should_write_train_graph": bool,
        "_train_accumulated_time": Number,
    }
    config = (
        "log_dir",
        "histogram_freq",
        "write_graph",
        "write_images",
        "write_steps_per_second",
        "update_freq",
        "embeddings_freq",
        "embeddings_metadata",
        "_start_batch",
        "_stop_batch",
        "_should_trace",
        "_log_write_dir",
        "_train_dir",
        "_val_dir",
    )
    handles = (
        "_batch_start_time",
        "_epoch_start_time",
        "_writers",
        "_summary_module",
        "_prev_summary_state",
        "_profiler_started",
        "_is_tracing",
        "_batch_trace_context",
    )

    def get(self, callback: Any) -> State:
        values = {n: getattr(callback, n) for n in self.state if hasattr(callback, n)}
        now = time.time()
        return {
            "values": {n: np.asarray(v) if tf.is_tensor(v) else v for n, v in values.items()},
            "elapsed": {n: now - t for n in _START_TIMES if (t := getattr(callback, n, None))},
            "log_dir": callback.log_dir,
            "mark": _tag_of(callback),
        }

    def set(self, callback: Any, state: State) -> None:
        for name, value in state["values"].items():
            setattr(callback, name, value)
        now = time.time()
        for name, elapsed in state["elapsed"].items():
            setattr(callback, name, now - elapsed)
        _renew_default_writer(callback)

    def check(self, callback: Any, state: State) -> None:
        check_fields(
            state, {"values": dict, "elapsed": dict, "log_dir": StoredPath, "mark": _Tag | None}
        )
        check_fields(state["values"], {}, self.state)
        check_fields(state["elapsed"], {}, dict.fromkeys(_START_TIMES, float))

    def append_only(self, callback: Any) -> Mapping[str, int]:
        flush_writers(callback)
        return {
            path: file_size(path) for path in _tagged_files(callback.log_dir, _tag_of(callback))
        }

    def replaced(self, callback: Any) -> Sequence[str]:
        return ()

    def may_write(self, callback: Any, path: str) -> bool:
        folder, name = os.path.split(path)
        top, kind = os.path.split(folder)
        return (
            kind in FOLDERS
            and ".keepfit-" in name
            and differ_only_in_numbers(top, callback.log_dir)
        )

    def baseline(self, callback: Any) -> Mapping[str, int]:
        return {f"mark of {callback.log_dir}": secrets.randbits(TAG_BITS)}

    @contextmanager
    def starting(self, callback: Any, baseline: Mapping[str, int]) -> Iterator[None]:
        tag = baseline[f"mark of {callback.log_dir}"] % (1 << TAG_BITS)
        callback._summary_module = TaggedSummaryModule(tag)
        for path in _tagged_files(callback.log_dir, tag):
            Path(path).unlink()
        yield

    @contextmanager
    def resuming(self, callback: Any, state: State, sizes: Mapping[str, int]) -> Iterator[None]:
        callback.log_dir = resolve_first_path(callback.log_dir, state["log_dir"])
        callback._summary_module = TaggedSummaryModule(state["mark"])
        for path in _tagged_files(callback.log_dir, state["mark"]):
            if path in sizes:
                truncate_file(path, sizes[path])
            else:
                Path(path).unlink()
        # The graphs are in the first attempt's file.
        write_graph, callback.write_graph = callback.write_graph, False
        try:
            yield
        finally:
            callback.write_graph = write_graph


def flush_writers(callback: Any) -> None:
    """Write out the events that the callback's summary writers hold in memory."""
    for writer in callback._writers.values():
        writer.flush()


def _renew_default_writer(callback: Any) -> None:
    """Make the default writer decide by the restored batch whether `update_freq` records an event.

    Keras' on_train_begin has made one for batch 0, and each further batch replaces it. After a
    resume at the last batch of an epoch, no batch follows before the events of the epoch's end.
    Older supported versions of Keras keep the one for batch 0 for the whole training.
    """
    begin: Any = keras.callbacks.TensorBoard.on_train_batch_begin
    each_batch_replaces_it = "_push_writer" in begin.__code__.co_names
    if callback._prev_summary_state and each_batch_replaces_it:
        callback._pop_writer()
        callback._push_writer(callback._train_writer, callback._global_train_batch)


def file_suffix(callback: Any) -> str | None:
    """Return the suffix of the names of this run's event files; None outside of Resumable."""
    return getattr(callback._summary_module, "suffix", None)


def _tag_of(callback: Any) -> int | None:
    return getattr(callback._summary_module, "run_tag", None)


def _tagged_files(log_dir: str, tag: int | None) -> list[str]:
    """Return the event files with this tag, in the order in which they were created."""
    if tag is None:
        return []
    name = f"*.keepfit-{tag:08x}.v2"
    return sorted(str(p) for folder in FOLDERS for p in Path(log_dir, folder).glob(name))
