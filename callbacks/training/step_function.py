"""A wrapper around `model.train_function`, the one call in `fit` that every batch goes through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import tensorflow as tf

Logs = dict[str, Any]


class StepObserver(Protocol):
    """The code that runs around each training step."""

    def before_step(self, iterator: Any) -> Logs | None:
        """Return the batch logs of a step that an earlier attempt has done; None to train.

        Raises:
            StopIteration: an earlier attempt has found no more data here.
        """

    def after_step(self) -> None:
        """Called after a step that trained."""

    def data_ended(self) -> None:
        """Called after a step that found no data."""


class StepFunction:
    """A train function that calls its observer before and after each step.

    It observes only calls that `expect_step` has announced: an error may have left the wrapper on
    the model, which a `fit` without Resumable may train next.

    Attributes:
        inner: the train function made by Keras, which does the training.
        expected: the next call is a step of the observed fit.
    """

    def __init__(self, inner: Callable[[Any], Any], observer: StepObserver) -> None:
        self.inner = inner
        self.expected = False
        self._observer = observer

    def __call__(self, iterator: Any) -> Any:
        expected, self.expected = self.expected, False
        if not expected:
            return self.inner(iterator)
        replayed = self._observer.before_step(iterator)
        if replayed is not None:
            return replayed
        try:
            logs = self.inner(iterator)
        except (StopIteration, tf.errors.OutOfRangeError):
            self._observer.data_ended()
            raise
        self._observer.after_step()
        return logs


def install(model: Any, observer: StepObserver) -> None:
    """Wrap the model's train function; a wrapper that an error left on it is replaced."""
    model.train_function = StepFunction(inner(model), observer)


def uninstall(model: Any) -> None:
    """Restore the model's own train function."""
    model.train_function = inner(model)


def is_installed(model: Any) -> bool:
    """Return True if the model's train function is a wrapper."""
    return isinstance(model.train_function, StepFunction)


def expect_step(model: Any) -> None:
    """Announce that the next call of the train function is a step of the observed fit."""
    if isinstance(model.train_function, StepFunction):
        model.train_function.expected = True


def inner(model: Any) -> Any:
    """Return the train function that Keras has made, without the wrapper."""
    function = model.train_function
    return function.inner if isinstance(function, StepFunction) else function
