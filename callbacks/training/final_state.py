"""Whether the final state of a finished `fit` can ever be needed again.

A script that calls `fit` in a loop finishes thousands of fits. A resumed attempt passes over them,
and restores the final state of each that the script looks at: it may evaluate the model, save it,
or choose its next data by it. The final state of a fit is dropped from the store once the script
can't look at it any more: it has not read the model since, and has trained the same model again or
has let go of it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keepfit.callbacks import events
from keepfit.callbacks.errors import Refused
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.training import internals, variables

log = get_logger()

FUNCTIONS = ("test_function", "predict_function")
"""The model's traced functions, which read variables without asking Keras for their values."""


class FinalState:
    """The final state of a finished fit, watched until the next fit of the run begins.

    Attributes:
        index: number of the fit.
        was_read: the script has read the model since the fit ended, or it is unknown.
    """

    def __init__(self, model: keras.Model, index: int) -> None:
        self.index = index
        self.was_read = False
        self._model = weakref.ref(model)
        found = [named.variable for named in variables.find_variables(model)]
        if any(isinstance(variable, tf.Variable) for variable in found):
            self.was_read = True  # reads of TensorFlow's own variables can't be watched
        self._reads = internals.VariableReads(found, self._read)
        self._reads.start()
        self._wrapped = _wrap_functions(model, self._read)

    def released_by(self, model: keras.Model) -> bool:
        """Return whether nothing can read this state once `model` is trained.

        It must not have been read, and must be overwritten or gone.
        """
        own = self._model()
        return not self.was_read and (own is None or own is model)

    def end_watch(self) -> bool:
        """Stop watching; return whether the state was read, or may have been."""
        self._reads.stop()
        if model := self._model():
            _unwrap_functions(model, self._wrapped)
        return self.was_read

    def _read(self) -> None:
        self.was_read = True
        self.end_watch()


class DroppedState(FinalState):
    """The final state of a fit that is not in the store any more: reading it is refused."""

    def is_needed_by(self, model: keras.Model) -> bool:
        """Return whether a fit that is not resumed would start from this state."""
        return self._model() is model

    def _read(self) -> None:
        self.end_watch()
        self.refuse()

    def refuse(self) -> None:
        """Refuse to go on from a state that is not there.

        Raises:
            Refused: always.
        """
        log.error(
            events.REFUSED,
            fit=self.index + 1,
            reason="the script reads a model whose final state after this fit was not kept: in the "
            "attempt that trained it, nothing had read the model before it was trained again",
            fix="undo the change of the script; or train again with --fresh and keep_fits=N "
            "(KEEPFIT_KEEP_FITS), which keeps the final states of the last N fits",
        )
        raise Refused


class _WatchedFunction:
    """A traced function of a model that reports each call."""

    def __init__(self, inner: Callable[..., Any], on_call: Callable[[], None]) -> None:
        self.inner = inner
        self._on_call = on_call

    def __call__(self, *args: Any, **named: Any) -> Any:
        self._on_call()
        return self.inner(*args, **named)


def _wrap_functions(model: Any, on_call: Callable[[], None]) -> list[str]:
    """Wrap the model's traced functions; return the names of those that exist."""
    names = [name for name in FUNCTIONS if getattr(model, name, None) is not None]
    for name in names:
        setattr(model, name, _WatchedFunction(getattr(model, name), on_call))
    return names


def _unwrap_functions(model: Any, names: list[str]) -> None:
    for name in names:
        if isinstance(function := getattr(model, name), _WatchedFunction):
            setattr(model, name, function.inner)
