"""The calls of `fit` on the stacks of this process: Keras tells nobody of them."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from types import FrameType
from typing import Any

import keras


def add_steps_seen(steps: int) -> None:
    """Add `steps` to the count of steps that the calling `fit` has taken from its iterator.

    With `steps_per_epoch`, one iterator may serve several epochs; `fit` counts its steps, to create
    another one when all data has been read. The count is reachable only through a local variable
    of `fit`.
    """
    local_of_fit("epoch_iterator")._steps_seen += steps


def callback_list_of_fit() -> keras.callbacks.CallbackList:
    """Return the list of all callbacks of the calling `fit`, which tells none about the others."""
    callbacks: keras.callbacks.CallbackList = local_of_fit("callbacks")
    return callbacks


def count_fits(thread: int) -> int:
    """Return how many calls of a model's `fit` are on the stack of a thread."""
    return _count_fits(current_frames().get(thread))


def count_all_fits() -> int:
    """Return how many calls of a model's `fit` are under way in this process."""
    return sum(_count_fits(frame) for frame in current_frames().values())


def current_frames() -> dict[int, FrameType]:
    """Return the innermost frame of each thread, by the thread's identifier.

    CPython before 3.12 creates the frame objects while it holds a lock. That may start a garbage
    collection, and the end of a `threading.local` in it waits for the same lock, for ever
    (github.com/python/cpython/issues/106883, fixed in 3.11.9; Debian 12 has 3.11.2).
    """
    if sys.version_info >= (3, 12) or not gc.isenabled():
        return sys._current_frames()
    gc.disable()
    try:
        return sys._current_frames()
    finally:
        gc.enable()


def _count_fits(frame: FrameType | None) -> int:
    return sum("epoch_iterator" in fit.f_code.co_varnames for fit in fits_on(frame))


class FitCall:
    """One call of Keras' `fit`, in the thread that has made it.

    Keras tells nobody that a `fit` was left by an exception, so the thread's stack is looked at.
    The call is recognised by the identity of its frame. No reference to the frame is kept, since
    its variables hold the data. The list of callbacks that Keras creates for the call ends with the
    frame, or with a traceback that keeps the frame, so while the list exists, no other frame has
    this identity.

    Local variables in the frame of another thread must not be read: CPython 3.11 and 3.12 copy
    them, which may destroy objects and so let that thread leave the frame meanwhile. The process
    then ends by SIGSEGV.
    """

    def __init__(self, thread: int, frame: FrameType) -> None:
        self._thread = thread
        self._frame = id(frame)
        self._callbacks = weakref.ref(frame.f_locals["callbacks"])

    @classmethod
    def current(cls) -> FitCall:
        """Return the call in which the calling code runs.

        Raises:
            LookupError: no `fit` is on the call stack.
        """
        return cls(threading.get_ident(), frame_of_fit("callbacks"))

    def is_running(self) -> bool:
        """Return True until the call has returned or was left by an exception. For any thread."""
        if self._callbacks() is None:
            return False
        frames = fits_on(current_frames().get(self._thread))
        return any(id(frame) == self._frame for frame in frames)


def caller_of_fit() -> FrameType:
    """Return the frame that has called the innermost `fit`, outside of Keras.

    Keras wraps `fit` to filter tracebacks, so the caller is not the next frame.

    Raises:
        LookupError: no `fit` is on the call stack.
    """
    frame: FrameType | None = next(fits_on(sys._getframe()), None)
    while frame and f"{frame.f_globals.get('__name__')}.".startswith("keras."):
        frame = frame.f_back
    if frame is None:
        raise LookupError("no Keras fit is on the call stack")
    return frame


def local_of_fit(name: str) -> Any:
    """Return the local variable `name` of the Keras `fit` on the call stack.

    Raises:
        LookupError: no such `fit` is on the call stack.
    """
    return frame_of_fit(name).f_locals[name]


def frame_of_fit(name: str) -> FrameType:
    """Return the frame of the Keras `fit` on the call stack with a local variable named `name`.

    Raises:
        LookupError: no such `fit` is on the call stack.
    """
    for frame in fits_on(sys._getframe()):
        if name in frame.f_locals:
            return frame
    raise LookupError(f"no Keras fit with a local variable {name!r} is on the call stack")


def fits_on(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield the frames of Keras' `fit` on a stack, the innermost first."""
    while frame:
        if _is_fit(frame):
            yield frame
        frame = frame.f_back


def _is_fit(frame: FrameType) -> bool:
    return frame.f_code.co_name == "fit" and frame.f_globals["__name__"].startswith("keras.")
