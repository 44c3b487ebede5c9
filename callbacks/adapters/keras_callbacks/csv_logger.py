"""The adapter of CSVLogger, whose file is truncated to the checkpoint and never rewritten.

Undocumented names of Keras' CSVLogger, as no documented ones exist:
- `keys`, `append_header`: the columns, and whether a header is still to be written;
- `csv_file`, `writer`: to flush the rows, and to know whether the header has been written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from keepfit.callbacks.adapters.base import State
from keepfit.callbacks.adapters.state_types import StoredPath, Text
from keepfit.callbacks.checkpoint.format.limits import Count
from keepfit.callbacks.checkpoint.format.state_schema import Fields, check_fields
from keepfit.callbacks.files.file_helpers import file_size, truncate_file
from keepfit.callbacks.files.paths import differ_only_in_numbers, resolve_first_path


class CSVLoggerAdapter:
    """Adapter for CSVLogger, which truncates its file or writes rows twice when it is restarted."""

    state: ClassVar[Fields] = {"keys": list[Text] | None, "append_header": bool}
    config = ("sep", "filename", "append")
    handles = ("writer", "csv_file")

    def get(self, callback: Any) -> State:
        file = getattr(callback, "csv_file", None)  # Keras 3.12 and older: only in training
        if file is not None and not file.closed:
            file.flush()
        return {
            "file": str(callback.filename),
            "size": file_size(callback.filename),
            "keys": callback.keys,
            "headed": callback.writer is not None or not callback.append_header,
        }

    def set(self, callback: Any, state: State) -> None:
        callback.keys = state["keys"]
        callback.append_header = not (state["headed"] and file_size(callback.filename))

    def check(self, callback: Any, state: State) -> None:
        keys = self.state["keys"]
        check_fields(state, {"file": StoredPath, "size": Count, "keys": keys, "headed": bool})

    def append_only(self, callback: Any) -> Mapping[str, int]:
        return {str(callback.filename): file_size(callback.filename)}

    def replaced(self, callback: Any) -> Sequence[str]:
        return ()

    def may_write(self, callback: Any, path: str) -> bool:
        return differ_only_in_numbers(path, str(callback.filename))

    def baseline(self, callback: Any) -> Mapping[str, int]:
        return self.append_only(callback)

    @contextmanager
    def starting(self, callback: Any, baseline: Mapping[str, int]) -> Iterator[None]:
        truncate_file(callback.filename, baseline[str(callback.filename)])
        yield

    @contextmanager
    def resuming(self, callback: Any, state: State, sizes: Mapping[str, int]) -> Iterator[None]:
        callback.filename = resolve_first_path(callback.filename, state["file"])
        truncate_file(callback.filename, state["size"])
        append, callback.append = callback.append, True
        try:
            yield
        finally:
            callback.append = append
