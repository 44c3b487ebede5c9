"""The layers and variables of a model."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import keras


def layers_of(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the model and all its layers at any depth; Model.layers has only the top level."""
    return list(model._flatten_layers())


def loss_weights_of(model: keras.Model) -> Any:
    """Return the argument of `compile`; None if the model was not compiled by Keras' own method."""
    config = getattr(getattr(model, "_compile_config", None), "config", {})
    return config.get("loss_weights")


class VariableReads:
    """Calls a function when the value of one of Keras' variables is read.

    Keras reads a variable through one property, whoever asks: `numpy()`, a layer, a file writer. It
    is replaced while any object of this class is watching. A function that was traced earlier reads
    by itself: FinalState watches those of the model.
    """

    _watching: ClassVar[list[VariableReads]] = []
    _suspended: ClassVar[set[int]] = set()

    def __init__(self, variables: Iterable[Any], on_read: Callable[[], None]) -> None:
        self._variables = {id(variable): weakref.ref(variable) for variable in variables}
        self._on_read = on_read

    def start(self) -> None:
        """Start to watch."""
        if not self._watching:
            _OWNER_OF_VALUE.value = property(_watched_value)
        self._watching.append(self)

    def stop(self) -> None:
        """Stop watching, if it was watching."""
        if self in self._watching:
            self._watching.remove(self)
            if not self._watching:
                _OWNER_OF_VALUE.value = _VALUE

    @classmethod
    @contextmanager
    def suspended(cls) -> Iterator[None]:
        """Ignore the reads of this thread until the block ends: they are keepfit's own."""
        own = threading.get_ident()
        cls._suspended.add(own)
        try:
            yield
        finally:
            cls._suspended.discard(own)

    @classmethod
    def notify(cls, variable: Any) -> None:
        """Call the functions of those that watch this variable."""
        if threading.get_ident() in cls._suspended:
            return
        for reads in list(cls._watching):
            known = reads._variables.get(id(variable))
            if known and known() is variable:
                reads._on_read()


_OWNER_OF_VALUE: Any = next(kind for kind in keras.Variable.__mro__ if "value" in vars(kind))


_VALUE: Any = vars(_OWNER_OF_VALUE)["value"]


def _watched_value(variable: Any) -> Any:
    VariableReads.notify(variable)
    return _VALUE.fget(variable)
