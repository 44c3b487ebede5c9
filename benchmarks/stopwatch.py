"""Time a callback from outside, batch by batch, and collect keepfit's log events meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import keras
import structlog

from keepfit.callbacks.logs.logger import replace_processors

Logs = dict[str, Any] | None
now = time.perf_counter


@dataclass(frozen=True)
class Batch:
    """One batch: when it began and ended, and the seconds of that spent in hooks."""

    began: float
    ended: float
    hooks: float

    @property
    def training(self) -> float:
        """Seconds outside the hooks."""
        return self.ended - self.began - self.hooks

    @property
    def span(self) -> tuple[float, float]:
        """When the batch began and ended."""
        return self.began, self.ended


class Stopwatch(keras.callbacks.Callback):
    """A callback that times the hooks of another one, which needs no change.

    Attributes:
        inner: the callback that is timed.
        batches: the batches so far.
        at_end: seconds in `on_train_end`.
    """

    def __init__(self, inner: keras.callbacks.Callback) -> None:
        super().__init__()
        self.inner = inner
        self.batches: list[Batch] = []
        self.at_end = 0.0
        self._began = self._hook = 0.0

    def set_params(self, params: Any) -> None:
        super().set_params(params)
        self.inner.set_params(params)

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        self.inner.set_model(model)

    def on_train_begin(self, logs: Logs = None) -> None:
        self.inner.on_train_begin(logs)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self.inner.on_epoch_begin(epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        self._began = now()
        self.inner.on_train_batch_begin(batch, logs)
        self._hook = now() - self._began

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        before = now()
        self.inner.on_train_batch_end(batch, logs)
        ended = now()
        self.batches.append(Batch(self._began, ended, self._hook + ended - before))

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self.inner.on_epoch_end(epoch, logs)

    def on_train_end(self, logs: Logs = None) -> None:
        began = now()
        self.inner.on_train_end(logs)
        self.at_end = now() - began


def collect_events() -> list[dict[str, Any]]:
    """Return a list to which keepfit's log events are appended from now on, with their `time`."""
    events: list[dict[str, Any]] = []

    def collect(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
        events.append({**event, "time": now()})
        raise structlog.DropEvent

    replace_processors([collect])
    return events


@dataclass(frozen=True)
class Call:
    """A call of a function that is being timed; `cpu` is the CPU time of the calling thread."""

    began: float
    ended: float
    cpu: float


@contextmanager
def watched(owner: Any, name: str) -> Iterator[list[Call]]:
    """Record the calls of `owner.name` while the block runs; the function is restored after it."""
    function, calls = getattr(owner, name), []

    @wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        began, cpu = now(), time.thread_time()
        try:
            return function(*args, **kwargs)
        finally:
            calls.append(Call(began, now(), time.thread_time() - cpu))

    setattr(owner, name, timed)
    try:
        yield calls
    finally:
        setattr(owner, name, function)
