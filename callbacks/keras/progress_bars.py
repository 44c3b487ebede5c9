"""Keras' progress bars where standard output is no terminal: one line when a bar is complete.

Keras draws a bar anew after each batch, with control characters, also into a file or a pipe.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from keepfit.callbacks.keras.import_hooks import changed_when_imported

if TYPE_CHECKING:
    import keras


@contextmanager
def lines_for_bars() -> Iterator[None]:
    """Write one line for each bar, as `verbose=2` does, until the block ends.

    This holds for `fit`, `evaluate`, `predict` and bars of the script's own. A terminal and a
    notebook show bars as before; so does `verbose` of 0 or 2. Keras is not imported here: the
    script may set variables that it reads on import.
    """
    with changed_when_imported("keras", lambda module: _updates_without_bars(module.utils.Progbar)):
        yield


@contextmanager
def _updates_without_bars(progbar: type[keras.utils.Progbar]) -> Iterator[None]:
    update = progbar.update

    @functools.wraps(update)
    def update_without_bar(
        self: keras.utils.Progbar, current: int, values: Any = None, finalize: bool | None = None
    ) -> Any:
        if self.verbose != 1 or _shows_bars():
            return update(self, current, values, finalize)
        if finalize and self.target is None:
            self.target = current  # Keras has no line for a bar whose end is unknown
        self.verbose = 2
        try:
            return update(self, current, values, finalize)
        finally:
            self.verbose = 1

    progbar.update = update_without_bar
    try:
        yield
    finally:
        progbar.update = update


def _shows_bars() -> bool:
    """Return whether standard output shows a bar: a terminal, a notebook, PyCharm's console."""
    isatty = getattr(sys.stdout, "isatty", None)
    known = "ipykernel" in sys.modules or "PYCHARM_HOSTED" in os.environ
    return known or bool(isatty and isatty())
