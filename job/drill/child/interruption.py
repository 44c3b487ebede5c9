"""The interruption of a process at one moment: SIGKILL, as when power fails, or SIGTERM."""

from __future__ import annotations

import functools
import os
import signal
import threading

from keepfit.callbacks.engine import session
from keepfit.callbacks.engine.writer import WRITER_THREAD
from keepfit.callbacks.storage.base import Version
from keepfit.callbacks.storage.local import LocalStore
from keepfit.job.drill.moments import Kind, Moment, Place
from keepfit.job.drill.traces import TraceWriter


class Interruption:
    """Interrupts this process at a moment, once.

    Args:
        moment: None if the process is not to be interrupted.
    """

    def __init__(self, moment: Moment | None, trace: TraceWriter) -> None:
        self._moment = moment
        self._trace = trace
        self._at_next_save = False

    def reach(self, place: Place) -> None:
        """Interrupt the process if this is the place of its moment."""
        moment = self._moment
        if moment is None or moment.place != place:
            return
        self._moment = None
        if moment.kind is Kind.NOTICE:
            self._send(signal.SIGTERM)
            return
        # In a fast training nothing else would be committed yet, and each attempt begin anew.
        session.current().finish_saves()
        if moment.kind is Kind.DURING_SAVE:
            self._at_next_save = True
        else:
            self._send(signal.SIGKILL)

    def save_is_committed(self) -> None:
        """Called on the writer's thread: the objects of a checkpoint are stored, HEAD is not."""
        if self._at_next_save:
            self._send(signal.SIGKILL)

    def watch_saves(self) -> None:
        """Call `save_is_committed` before each commit of this process, and record each commit."""
        swap = LocalStore.swap

        @functools.wraps(swap)
        def watched_swap(
            store: LocalStore, key: str, body: bytes, *, expected: Version | None
        ) -> Version:
            is_commit = threading.current_thread().name.startswith(WRITER_THREAD)
            if is_commit:
                self.save_is_committed()
            version = swap(store, key, body, expected=expected)
            if is_commit:
                self._trace.write("save")
            return version

        setattr(LocalStore, "swap", watched_swap)  # noqa: B010 # mypy allows no assignment

    def _send(self, number: signal.Signals) -> None:
        self._trace.write("interrupted", signal=number.name)
        os.kill(os.getpid(), number)
