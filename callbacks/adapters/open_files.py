"""Files that a callback, or a function in it, has open: append-only files of the script.

A script opens its file anew in each attempt, and usually empties it. The content of the file is
restored in place, and the script's own handle is moved to the end of it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import IO, Any

from keepfit.callbacks.adapters.base import State
from keepfit.callbacks.files.file_helpers import truncate_file

_KINDS = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom, io.FileIO)


class OpenFilesAdapter:
    """Adapter for a callback that keeps a file of its own, or uses one of the script's."""

    def append_only(self, callback: Any) -> Mapping[str, int]:
        sizes = {}
        for handle in _handles(callback):
            if not handle.closed:
                handle.flush()
            if os.path.exists(handle.name):
                sizes[handle.name] = os.path.getsize(handle.name)
        return sizes

    def replaced(self, callback: Any) -> Sequence[str]:
        return ()

    def may_write(self, callback: Any, path: str) -> bool:
        return any(handle.name == path for handle in _handles(callback))

    def baseline(self, callback: Any) -> Mapping[str, int]:
        return self.append_only(callback)

    @contextmanager
    def starting(self, callback: Any, baseline: Mapping[str, int]) -> Iterator[None]:
        for path, size in self.append_only(callback).items():
            truncate_file(path, baseline.get(path, size))
        _seek_to_end(callback)
        yield

    @contextmanager
    def resuming(self, callback: Any, state: State, sizes: Mapping[str, int]) -> Iterator[None]:
        yield
        for path in self.append_only(callback).keys() & sizes.keys():
            truncate_file(path, sizes[path])
        _seek_to_end(callback)


def _seek_to_end(callback: Any) -> None:
    for handle in _handles(callback):
        if not handle.closed and handle.seekable():
            handle.seek(0, os.SEEK_END)


def _handles(callback: Any) -> list[IO[Any]]:
    """Return the files, open for writing or closed again, that the callback's code can reach."""
    own = [*vars(callback).values()]
    functions = [v for v in (*own, *vars(type(callback)).values()) if isinstance(v, FunctionType)]
    reached = (
        *own,
        *(value for function in functions for value in _values_reachable_from(function)),
    )
    found = {id(value): value for value in reached if isinstance(value, _KINDS)}
    return [handle for handle in found.values() if _is_writable_file(handle)]


def _values_reachable_from(function: FunctionType) -> Iterable[Any]:
    """Yield the values of the function's closure and defaults, and the globals that it names."""
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not bound yet
            continue
    yield from function.__defaults__ or ()
    for name in function.__code__.co_names:
        if name in function.__globals__:
            yield function.__globals__[name]


def _is_writable_file(handle: IO[Any]) -> bool:
    name = getattr(handle, "name", None)
    mode = getattr(handle, "mode", "")
    return isinstance(name, str) and Path(name).is_file() and any(c in mode for c in "wax+")


def is_kept_file(name: str, value: object) -> bool:
    """Return whether an attribute is a file of which OpenFilesAdapter keeps the content."""
    return "." not in name and isinstance(value, _KINDS) and _is_writable_file(value)
