"""The beginning of `fit`, `evaluate` and `predict`, and the list of callbacks of a `fit`."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, ClassVar, Protocol, runtime_checkable

import keras

from keepfit.callbacks.training.internals.frames import fits_on


def set_initial_epoch(model: keras.Model, epoch: int | None) -> None:
    """Make the current `fit` start at `epoch`; None restores the `initial_epoch` argument of `fit`.

    `fit` reads the attribute once, after `on_train_begin`; BackupAndRestore sets it in the same
    way. It has to be cleared, or the next `fit` of this model would skip its epochs as well.
    """
    model._initial_epoch = epoch


@runtime_checkable
class JoinsFits(Protocol):
    """A callback that takes other callbacks out of the list of a new `fit`, to call them itself."""

    def joins_fit(self, fit: keras.callbacks.CallbackList) -> None:
        """Called with the new list, before any hook of any callback in it."""


class CallListener(Protocol):
    """An object that learns of each call of `fit`, `evaluate` and `predict` of the process."""

    def fit_creates_list(self, fit: keras.callbacks.CallbackList) -> None:
        """Called with the list that a `fit` has created, before any hook of any callback in it."""

    def fit_uses_list(self, fit: keras.callbacks.CallbackList) -> None:
        """Called before `on_train_begin` of a list that the script has made for a `fit`."""

    def call_begins(self, method: str) -> None:
        """Called when "evaluate" or "predict" begins outside of `fit`."""


class KerasCalls:
    """Announces each `fit` to the callbacks that join it, and each call to listeners.

    Keras tells nobody of the list of callbacks that it creates. Its first call is to `set_model` of
    one callback after another, and TensorBoard writes files in it: too late for one that comes
    first in the list and is to be called in another way. So the list's own `set_model` is replaced,
    and `on_train_begin` for lists that the script has created.
    """

    _listeners: ClassVar[list[CallListener]] = []

    @classmethod
    @contextmanager
    def announced_to(cls, listener: CallListener) -> Iterator[None]:
        """Announce all calls of the process to `listener`, until the block ends."""
        announce_new_fits()
        cls._listeners.append(listener)
        try:
            yield
        finally:
            cls._listeners.remove(listener)

    @classmethod
    def list_is_created(cls, callbacks: keras.callbacks.CallbackList) -> None:
        """Called in the constructor of a list, before `set_model` of the callbacks in it."""
        method = _method_that_creates(callbacks)
        if method == "fit":
            for listener in list(cls._listeners):
                listener.fit_creates_list(callbacks)
            for callback in list(callbacks.callbacks):
                if isinstance(callback, JoinsFits):
                    callback.joins_fit(callbacks)
        elif method in ("evaluate", "predict"):
            for listener in list(cls._listeners):
                listener.call_begins(method)

    @classmethod
    def training_begins(cls, callbacks: keras.callbacks.CallbackList) -> None:
        """Called before `on_train_begin` of the callbacks in a list."""
        fit = next(fits_on(sys._getframe()), None)
        if fit is not None and fit.f_locals.get("callbacks") is callbacks:
            for listener in list(cls._listeners):
                listener.fit_uses_list(callbacks)


@functools.cache
def announce_new_fits() -> None:
    """Make each `fit` call `joins_fit` of the callbacks that have it, from now on.

    Lists that the script, `evaluate` or `predict` create are left as they are.
    """
    set_model = keras.callbacks.CallbackList.set_model
    on_train_begin = keras.callbacks.CallbackList.on_train_begin

    @functools.wraps(set_model)
    def set_model_after_joining(callbacks: keras.callbacks.CallbackList, model: Any) -> None:
        KerasCalls.list_is_created(callbacks)
        set_model(callbacks, model)

    @functools.wraps(on_train_begin)
    def on_train_begin_after_joining(
        callbacks: keras.callbacks.CallbackList, logs: Mapping[str, Any] | None = None
    ) -> None:
        KerasCalls.training_begins(callbacks)
        on_train_begin(callbacks, logs)

    keras.callbacks.CallbackList.set_model = set_model_after_joining
    keras.callbacks.CallbackList.on_train_begin = on_train_begin_after_joining


def insert_callback(
    callbacks: keras.callbacks.CallbackList, at: int, callback: keras.callbacks.Callback
) -> None:
    """Insert a callback into a list that exists, as if `fit` had been given it.

    The list has decided in its constructor whether hooks of batches may be called in other threads;
    those of a callback that was not there may not.
    """
    callbacks.callbacks.insert(at, callback)
    callbacks._async_train = callbacks._async_test = callbacks._async_predict = False


def _method_that_creates(callbacks: keras.callbacks.CallbackList) -> str | None:
    """Return the name of Keras' method that is calling the list's constructor, if any is."""
    constructor = keras.callbacks.CallbackList.__init__.__code__
    frame: FrameType | None = sys._getframe()
    while frame and not (frame.f_code is constructor and frame.f_locals["self"] is callbacks):
        frame = frame.f_back
    caller = frame and frame.f_back
    if caller is None or not str(caller.f_globals.get("__name__", "")).startswith("keras."):
        return None
    return caller.f_code.co_name
