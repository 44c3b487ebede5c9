"""No garbage collection while the script imports TensorFlow and Keras.

They create some million objects that live as long as the process. Python's collector walks them
again and again meanwhile, which takes a fifth of the time of the import; and each later collection
walks them too, unless they are frozen.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final, cast

import wrapt

LARGE: Final = frozenset({"tensorflow", "keras"})
"""Packages with large imports; one usually imports the other."""


@contextmanager
def collection_paused_in_imports() -> Iterator[None]:
    """Pause the collector during imports of LARGE packages, until the block ends.

    What the script has set with the module gc wins: where it has disabled the collector, nothing is
    changed.
    """
    finder = _Finder(_Pause())
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        if finder in sys.meta_path:  # a script may replace the list
            sys.meta_path.remove(finder)


class _Pause:
    """The state of the collector, for imports within imports and in several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._paused = False

    def begin(self) -> None:
        with self._lock:
            self._depth += 1
            if self._depth == 1:
                self._paused = gc.isenabled()
                if self._paused:
                    gc.disable()

    def end(self) -> None:
        """Resume after the outermost import; freeze what it has created."""
        with self._lock:
            self._depth -= 1
            if self._depth == 0 and self._paused:
                gc.freeze()
                gc.enable()


class _Finder(MetaPathFinder):
    """Finds LARGE packages as the other finders do, with a loader that pauses the collector."""

    def __init__(self, pause: _Pause) -> None:
        self._pause = pause

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in LARGE:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            if found := finder.find_spec(name, path, target):
                if found.loader is not None:
                    found.loader = cast("Loader", _PausingLoader(found.loader, self._pause))
                return found
        return None


class _PausingLoader(wrapt.ObjectProxy):  # type: ignore[type-arg] # wrapt 1 has none at run time
    """A loader of a LARGE package; it has all other attributes of the original one."""

    def __init__(self, loader: Loader, pause: _Pause) -> None:
        super().__init__(loader)
        self._self_pause = pause

    def exec_module(self, module: ModuleType) -> Any:
        self._self_pause.begin()
        try:
            return self.__wrapped__.exec_module(module)
        finally:
            self._self_pause.end()
