"""TensorBoard's event files: every attempt adds its own, and none says anything twice.

The files bear a mark of the run in their names. So what a killed attempt has left behind since the
checkpoint can be told from what others have written into the same folder.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keepfit.callbacks.adapters.base import State
from keepfit.callbacks.adapters.csv_logger import file_size, truncate_file
from keepfit.callbacks.adapters.paths import differ_only_in_numbers, resolve_first_path

FOLDERS = ("train", "validation")


_START_TIMES = ("_batch_start_time", "_epoch_start_time")
"""Kept as the time that had gone by."""


class TaggedSummaryModule:
    """`tf.summary`, whose writers put a mark into the names of their files."""

    def __init__(self, mark: int) -> None:
        self.mark = mark
        self.suffix = f".keepfit-{mark:08x}.v2"

    def create_file_writer(self, folder: str) -> Any:
        return tf.summary.create_file_writer(folder, filename_suffix=self.suffix)

    def __getattr__(self, name: str) -> Any:
        return getattr(tf.summary, name)


class TensorBoardAdapter:
    """For TensorBoard, whose steps begin at 0 when it is started again."""

    state = (
        "_global_train_batch",
        "_global_test_batch",
        "_previous_epoch_iterations",
        "_should_write_train_graph",
        "_train_accumulated_time",
    )
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
        return {f"mark of {callback.log_dir}": secrets.randbits(32)}

    @contextmanager
    def starting(self, callback: Any, baseline: Mapping[str, int]) -> Iterator[None]:
        mark = baseline[f"mark of {callback.log_dir}"]
        callback._summary_module = TaggedSummaryModule(mark)
        for path in _tagged_files(callback.log_dir, mark):
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
    """Write out what the callback's summary writers hold in memory."""
    for writer in callback._writers.values():
        writer.flush()


def file_suffix(callback: Any) -> str | None:
    """The end of the names of this run's event files; None outside of Resumable."""
    return getattr(callback._summary_module, "suffix", None)


def _tag_of(callback: Any) -> int | None:
    return getattr(callback._summary_module, "mark", None)


def _tagged_files(log_dir: str, mark: int | None) -> list[str]:
    """Those with this mark, in the order in which they were begun."""
    if mark is None:
        return []
    name = f"*.keepfit-{mark:08x}.v2"
    return sorted(str(p) for folder in FOLDERS for p in Path(log_dir, folder).glob(name))
