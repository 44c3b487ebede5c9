"""Files that a callback, or a function in it, has open: append-only logs of the script's own.

A script opens its log anew in each attempt, and mostly empties it. The file is given back its
content in place, and the script's own handle is moved behind it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import IO, Any

from callbacks.state.base import State
from callbacks.state.logs import cut

_KINDS = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom, io.FileIO)


class OpenFiles:
    """For a callback that keeps its own file, or uses one of the script's."""

    def logs(self, callback: Any) -> Mapping[str, int]:
        sizes = {}
        for handle in _handles(callback):
            if not handle.closed:
                handle.flush()
            if os.path.exists(handle.name):
                sizes[handle.name] = os.path.getsize(handle.name)
        return sizes

    def whole(self, callback: Any) -> Sequence[str]:
        return ()

    def may_write(self, callback: Any, path: str) -> bool:
        return any(handle.name == path for handle in _handles(callback))

    def first(self, callback: Any) -> Mapping[str, int]:
        return self.logs(callback)

    @contextmanager
    def beginning(self, callback: Any, first: Mapping[str, int]) -> Iterator[None]:
        for path, size in self.logs(callback).items():
            cut(path, first.get(path, size))
        _to_the_end(callback)
        yield

    @contextmanager
    def reopening(self, callback: Any, state: State, sizes: Mapping[str, int]) -> Iterator[None]:
        yield
        for path in self.logs(callback).keys() & sizes.keys():
            cut(path, sizes[path])
        _to_the_end(callback)


def _to_the_end(callback: Any) -> None:
    for handle in _handles(callback):
        if not handle.closed and handle.seekable():
            handle.seek(0, os.SEEK_END)


def _handles(callback: Any) -> list[IO[Any]]:
    """Files on disk, open for writing or closed again, that the callback's code can reach."""
    own = [*vars(callback).values()]
    functions = [v for v in (*own, *vars(type(callback)).values()) if isinstance(v, FunctionType)]
    reached = (*own, *(value for function in functions for value in _reached_by(function)))
    found = {id(value): value for value in reached if isinstance(value, _KINDS)}
    return [handle for handle in found.values() if _is_log(handle)]


def _reached_by(function: FunctionType) -> Iterable[Any]:
    """The values of its closure and defaults, and the globals that it names."""
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not bound yet
            continue
    yield from function.__defaults__ or ()
    for name in function.__code__.co_names:
        if name in function.__globals__:
            yield function.__globals__[name]


def _is_log(handle: IO[Any]) -> bool:
    name = getattr(handle, "name", None)
    mode = getattr(handle, "mode", "")
    return isinstance(name, str) and Path(name).is_file() and any(c in mode for c in "wax+")
