"""A stand-in for `model.train_function`: the one place in `fit` through which every batch goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Logs = dict[str, Any]


class StepFunction:
    """Shows each iterator to `before`, and trains unless `before` has logs to return instead.

    Attributes:
        inner: what Keras made, and what does the training.
    """

    def __init__(
        self,
        inner: Callable[[Any], Any],
        before: Callable[[Any], Logs | None],
        after: Callable[[], None],
    ) -> None:
        self.inner = inner
        self._before = before
        self._after = after

    def __call__(self, iterator: Any) -> Any:
        replayed = self._before(iterator)
        if replayed is not None:
            return replayed
        logs = self.inner(iterator)
        self._after()
        return logs


def install(model: Any, before: Callable[[Any], Logs | None], after: Callable[[], None]) -> None:
    """Put a stand-in before the model's train function, in place of one that an error left."""
    model.train_function = StepFunction(_inner(model), before, after)


def uninstall(model: Any) -> None:
    """Give the model its own train function back."""
    model.train_function = _inner(model)


def is_installed(model: Any) -> bool:
    return isinstance(model.train_function, StepFunction)


def _inner(model: Any) -> Any:
    function = model.train_function
    return function.inner if isinstance(function, StepFunction) else function
