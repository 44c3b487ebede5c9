"""Observes each `fit` of a process for a drill, without becoming a part of its state."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from keepfit.callbacks.engine import session
from keepfit.callbacks.keras.resumable import Resumable
from keepfit.callbacks.training import internals
from keepfit.job.drill.child import digests
from keepfit.job.drill.child.interruption import Interruption
from keepfit.job.drill.child.outside import refuse_outside
from keepfit.job.drill.instructions import Instructions
from keepfit.job.drill.moments import Hook, Place
from keepfit.job.drill.traces import TraceWriter


class DrillEnded(SystemExit):
    """The training has come to the place at which the run is compared."""

    def __init__(self) -> None:
        super().__init__(0)


class Observer:
    """Adds an observing callback to the list of each `fit`, as Keras adds its own ones."""

    def __init__(
        self, instructions: Instructions, trace: TraceWriter, interruption: Interruption
    ) -> None:
        self.instructions = instructions
        self.trace = trace
        self.interruption = interruption
        self.ended = False
        self.batches = self.epochs = 0
        self._fits = 0
        self._process = os.getpid()

    def fit_creates_list(self, fit: keras.callbacks.CallbackList) -> None:
        """Observe a `fit`; in plain Python, put the callbacks inside Resumable in its place."""
        if not self.instructions.kept:
            fit.callbacks[:] = [
                each
                for callback in fit.callbacks
                for each in (callback.callbacks if type(callback) is Resumable else [callback])
            ]
        self._observe(fit)

    def fit_uses_list(self, fit: keras.callbacks.CallbackList) -> None:
        """Observe a `fit` with a list that the script has made."""
        if not any(isinstance(callback, _FitObserver) for callback in fit.callbacks):
            added = self._observe(fit)
            if added is not None:
                added.set_params(fit.params)
                added.set_model(fit.model)

    def call_begins(self, method: str) -> None:
        """Do nothing: what a script evaluates or predicts outside of `fit` is its own."""

    def end_run(self) -> None:
        """End the process: the run is compared here. A script that goes on is ended again."""
        self.ended = True
        raise DrillEnded

    def _observe(self, fit: keras.callbacks.CallbackList) -> _FitObserver | None:
        if os.getpid() != self._process:
            return None
        if self.ended:
            raise DrillEnded
        resumables = [each for each in fit.callbacks if isinstance(each, Resumable)]
        for each in resumables:  # a drill never writes to the store of real runs
            each.settings = replace(each.settings, store=self.instructions.store)
        inside = [callback for each in resumables for callback in each.callbacks]
        refuse_outside((*fit.callbacks, *inside), Path(self.instructions.home))
        place = _place()
        self.trace.write("fit", fit=self._fits, place=place, printed=_printed())
        self.interruption.reach(Place(self._fits, 0, Hook.FIT_BEGIN))
        added = _FitObserver(self, self._fits, place, fit)
        internals.insert_callback(fit, len(fit.callbacks), added)
        self._fits += 1
        return added


class _FitObserver(keras.callbacks.Callback):
    """Observes one `fit`. It has `joins_fit`, so that Resumable leaves it in Keras' list."""

    def __init__(
        self, observer: Observer, fit: int, place: str, callbacks: keras.callbacks.CallbackList
    ) -> None:
        super().__init__()
        self._observer = observer
        self._number = fit
        self._place = place
        self._list = callbacks
        self._epoch = 0
        self._batch = -1
        self._trained = False
        self._in_epoch = False

    def joins_fit(self, fit: keras.callbacks.CallbackList) -> None:
        """Do nothing; see JoinsFits."""

    def on_train_begin(self, logs: Any = None) -> None:
        if self._observer.instructions.describe_starts:
            self._write("start")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch, self._batch = epoch, -1
        self._trained = self._in_epoch = True
        self._observer.trace.write("epoch", fit=self._number, epoch=epoch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._observer.batches += batch - self._batch
        self._batch = batch
        self._observer.trace.write("batch", batch=batch)
        self._reach(Hook.BATCH_END, batch, logs)

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._in_epoch:
            self._observer.trace.write("validation", batch=batch)
            self._reach(Hook.VALIDATION_BATCH_END, batch, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._in_epoch = False
        self._observer.epochs += 1
        self._observer.trace.write("epoch_end", epoch=epoch)
        self._reach(Hook.EPOCH_END, 0, logs)

    def on_train_end(self, logs: Any = None) -> None:
        self._write("fit_end", fit=self._index(), trained=self._trained, printed=_printed())

    def _reach(self, hook: Hook, batch: int, logs: Any) -> None:
        place = Place(self._number, self._epoch, hook, batch)
        self._observer.interruption.reach(place)
        if self._is_end(place):
            at = {name: [digests.as_text(value)] for name, value in (logs or {}).items()}
            self._write(
                "until", at=place.as_list(), trained=True, printed=_printed(), logs={"at": at}
            )
            self._observer.end_run()

    def _is_end(self, place: Place) -> bool:
        instructions = self._observer.instructions
        if instructions.until is not None:
            return place == instructions.until
        limit = instructions.limit
        if limit is None:
            return False
        if limit.batches is not None:
            return place.hook is Hook.BATCH_END and self._observer.batches >= limit.batches
        return place.hook is Hook.EPOCH_END and self._observer.epochs >= (limit.epochs or 1)

    def _write(self, kind: str, **fields: Any) -> None:
        """Record the state at this moment."""
        history = next(
            (each for each in self._list.callbacks if isinstance(each, keras.callbacks.History)),
            None,
        )
        logs = fields.pop("logs", {}).get("at", {})
        self._observer.trace.write(
            kind,
            **{
                "fit": self._number,
                "place": self._place,
                "history": {
                    **digests.history_of(history),
                    **{f"{name} at the end": value for name, value in logs.items()},
                },
                "epochs": list(history.epoch) if history and hasattr(history, "epoch") else [],
                "variables": digests.variables_of(self.model),
                "generators": digests.generators(),
                **fields,
            },
        )

    def _index(self) -> int:
        """Return the number of the fit in the run, which a script may have entered in the middle.

        A script that skips what it has finished begins with another fit in each attempt.
        """
        resumable = next((c for c in self._list.callbacks if isinstance(c, Resumable)), None)
        if resumable is None or not self._observer.instructions.kept:
            return self._number
        finished = session.current().run(resumable.settings).final_states.newest
        return self._number if finished is None else finished.index


def _place() -> str:
    """Return file and line of the call of `fit`."""
    frame = internals.caller_of_fit()
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def _printed() -> int | None:
    """Return how many bytes were printed so far; None if standard output is no file any more."""
    sys.stdout.flush()
    try:
        return os.lseek(1, 0, os.SEEK_CUR)
    except OSError:
        return None
