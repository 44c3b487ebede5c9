"""Calls of `fit` as other threads see them."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
import types

from keepfit.callbacks.training.internals import FitCall
from keepfit.callbacks.training.internals.frames import current_frames

FITS = 300


class Callbacks:
    """A list of callbacks, as far as a weak reference is concerned."""


class Logs:
    """An object whose end lets other threads run, as that of TensorFlow's objects does."""

    def __del__(self):
        time.sleep(0)


def fit(calls, inner=0, *, fails=False):
    """Stand for Keras' own: a call with callbacks, logs, and further fits within."""
    callbacks = Callbacks()
    calls.append(FitCall.current())
    for _ in range(3):
        logs, more = Logs(), [Logs() for _ in range(3)]
    if inner:
        fit(calls, inner - 1)
    if fails:
        raise ValueError
    del callbacks, logs, more


def fit_of_keras():
    """Return `fit` as a function that is recognised as that of Keras: by its module's name."""
    names = {**globals(), "__name__": "keras.fit"}
    names["fit"] = types.FunctionType(fit.__code__, names, "fit", fit.__defaults__)
    names["fit"].__kwdefaults__ = fit.__kwdefaults__
    return names["fit"]


def watch_fits() -> None:
    """Ask whether a fit in another thread is running, all the time, until it has begun FITS."""
    fit, calls = fit_of_keras(), []

    def train():
        for _ in range(FITS):
            fit(calls, inner=5)

    sys.setswitchinterval(1e-5)
    thread = threading.Thread(target=train)
    thread.start()
    seen = 0
    while thread.is_alive():
        seen += sum(call.is_running() for call in calls[-6:])
    assert seen
    assert not any(call.is_running() for call in calls)


def test_asking_does_not_harm_a_thread_that_trains():
    """The variables of a frame that runs can't be read from outside: the process would crash."""
    child = os.fork()
    if not child:
        watch_fits()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_a_fit_that_was_left_by_an_exception_is_over():
    """Also while its traceback keeps its variables, and while another fit runs there."""
    calls, fit = [], fit_of_keras()
    try:
        fit(calls, fails=True)
    except ValueError:
        assert not calls[0].is_running()
        fit(calls)
    assert not any(call.is_running() for call in calls)


def collect_thread_locals() -> None:
    """Ask for the frames of all threads again and again, while collections end thread locals."""
    gc.set_threshold(1)
    for _ in range(2000):
        cycle = [threading.local()]
        cycle.append(cycle)
        del cycle
        current_frames()


def test_asking_does_not_wait_for_a_collection():
    """CPython 3.11 collects garbage while it holds the lock that a `threading.local` needs to end.

    The process would stand still for ever.
    """
    child = os.fork()
    if not child:
        signal.alarm(60)
        collect_thread_locals()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
