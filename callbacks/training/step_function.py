"""A stand-in for `model.train_function`: the one place in `fit` through which every batch goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import tensorflow as tf

Logs = dict[str, Any]


class StepObserver(Protocol):
    """What is to happen around the steps of a training."""

    def expected(self) -> bool:
        """Whether a step is to come now. A stand-in that an error left on the model is not."""

    def before_step(self, iterator: Any) -> Logs | None:
        """Logs to return in place of a step that has been done; None to train."""

    def after_step(self) -> None: ...

    def data_ended(self) -> None: ...


class StepFunction:
    """Asks `steps` before and after each step.

    Attributes:
        inner: what Keras made, and what does the training.
    """

    def __init__(self, inner: Callable[[Any], Any], steps: StepObserver) -> None:
        self.inner = inner
        self._steps = steps

    def __call__(self, iterator: Any) -> Any:
        if not self._steps.expected():
            return self.inner(iterator)
        done = self._steps.before_step(iterator)
        if done is not None:
            return done
        try:
            logs = self.inner(iterator)
        except (StopIteration, tf.errors.OutOfRangeError):
            self._steps.data_ended()
            raise
        self._steps.after_step()
        return logs


def install(model: Any, steps: StepObserver) -> None:
    """Put a stand-in before the model's train function, in place of one that an error left."""
    model.train_function = StepFunction(_inner(model), steps)


def uninstall(model: Any) -> None:
    """Give the model its own train function back."""
    model.train_function = _inner(model)


def is_installed(model: Any) -> bool:
    """Whether the model's train function is a stand-in."""
    return isinstance(model.train_function, StepFunction)


def _inner(model: Any) -> Any:
    function = model.train_function
    return function.inner if isinstance(function, StepFunction) else function
