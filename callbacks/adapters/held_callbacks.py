"""All callbacks inside one Resumable: their states, files and reports."""

from __future__ import annotations

import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any

from keepfit.callbacks import events
from keepfit.callbacks.adapters import registry
from keepfit.callbacks.adapters.appended_files import AppendedFiles
from keepfit.callbacks.adapters.base import (
    DeferredSends,
    FileAdapter,
    FrozenState,
    HeldCallback,
    RecordOnce,
    ReportingAdapter,
    RestoredSends,
    SendingAdapter,
    State,
    TemporaryFilesAdapter,
)
from keepfit.callbacks.adapters.log_files import LOG_FILES
from keepfit.callbacks.adapters.state_types import Text
from keepfit.callbacks.checkpoint.format.codec import Array, UnsupportedValue, encode
from keepfit.callbacks.checkpoint.format.limits import Json
from keepfit.callbacks.checkpoint.format.state_schema import check_fields, check_type
from keepfit.callbacks.checkpoint.snapshot import FileStamp, stamp_of
from keepfit.callbacks.errors import Refused
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.masking import without_secrets

log = get_logger()


@dataclass(frozen=True)
class CapturedCallbacks:
    """The states of all callbacks at one moment, encoded when they are needed.

    Attributes:
        states: the class and the frozen state of each callback.
    """

    states: Sequence[tuple[str, FrozenState]]

    def encode(self, arrays: dict[str, Array], guard: ExactnessGuard) -> list[Json]:
        """Return the class and the encoded state of each callback; add the arrays to `arrays`.

        A state that can't be stored is reported as an exactness warning; training continues without
        it.
        """
        entries: list[Json] = []
        for i, (name, frozen) in enumerate(self.states):
            state, own_arrays = None, dict[str, Array]()
            try:
                state = encode(frozen(), f"state/callbacks/{i}", own_arrays)
                arrays.update(own_arrays)
            except (UnsupportedValue, RecursionError) as error:
                reason = (
                    "its state contains itself" if isinstance(error, RecursionError) else str(error)
                )
                guard.report(
                    events.STATE_LOST,
                    callback=name,
                    reason=reason,
                    fix="return plain values and arrays from get_state(); otherwise the callback "
                    "starts over when the run is resumed",
                )
            entries.append({"class": name, "state": state})
        return entries


@dataclass(frozen=True)
class HeldCallbacks:
    """The callbacks inside one Resumable, in the order in which they are called.

    Attributes:
        appended: the files that their hooks open themselves to append to them.
    """

    callbacks: Sequence[HeldCallback] = ()
    appended: AppendedFiles = field(default_factory=AppendedFiles, compare=False)

    @classmethod
    def hold(cls, callbacks: Sequence[Any], guard: ExactnessGuard | None = None) -> HeldCallbacks:
        """Return the callbacks with their adapters. Call this before training changes any."""
        guard = guard or ExactnessGuard()
        return cls([registry.hold_callback(callback, guard) for callback in callbacks])

    def __iter__(self) -> Iterator[HeldCallback]:
        return iter(self.callbacks)

    def capture(self) -> CapturedCallbacks:
        """Freeze the state of each callback, on the training thread."""
        return CapturedCallbacks([(held.name, _capture(held)) for held in self])

    def check(self, saved: object, model: Any) -> None:
        """Check the saved states, before any of them is restored. Raises InvalidState."""
        entries: list[State] = check_type("callbacks", saved, list[dict[str, Any]])
        for entry in entries:
            check_fields(entry, {"class": Text, "state": Any})
        for held, state in self._match(entries):
            held.check(state, model)

    def restore(self, saved: Sequence[State]) -> None:
        """Restore the state of each callback; log saved states without a callback.

        Raises:
            Refused: a callback's own `set_state` does not take what its `get_state` has returned.
        """
        for held, state in self._match(saved):
            try:
                held.set(state)
            except Exception as error:  # the user's code, and may raise anything
                raise _refusal(held, error) from error
        present = Counter(held.name for held in self)
        for name, count in (Counter(item["class"] for item in saved) - present).items():
            log.warning(events.STATE_UNCLAIMED, callback=name, count=count)

    def starting_files(self, baseline: Mapping[str, int]) -> AbstractContextManager[None]:
        """Surround `set_model` and `on_train_begin` of all callbacks in a fit that is not resumed.

        Args:
            baseline: the baseline values at the first start of this fit.
        """
        return _entered(files.starting(callback, baseline) for callback, files in self._files())

    def resuming_files(
        self, saved: Sequence[State], sizes: Mapping[str, int]
    ) -> AbstractContextManager[None]:
        """Surround `set_model` and `on_train_begin` of all callbacks in a fit that is resumed.

        Args:
            saved: the states that the files continue from.
            sizes: the sizes in bytes of the append-only files at the checkpoint, by path.
        """
        of_callbacks = (
            held.files.resuming(held.callback, held.known_state(state), sizes)
            for held, state in self._match(saved)
            if held.files
        )
        return _entered(chain(of_callbacks, (LOG_FILES.resuming(None, {}, sizes),)))

    def beginning(self, callback: Any) -> AbstractContextManager[None]:
        """Return a context for `on_train_begin` of one of the callbacks."""
        return next(held for held in self if held.callback is callback).beginning()

    def append_only_files(self) -> dict[str, int]:
        """Flush the callbacks' append-only files, and return their sizes in bytes, by path."""
        sizes = (files.append_only(callback) for callback, files in self._files())
        kept = {path: size for of_callback in sizes for path, size in of_callback.items()}
        return {**self.appended.sizes(), **kept}

    def replaced_files(self) -> dict[str, FileStamp]:
        """Return the existing files that the callbacks replace as a whole, each with its stamp."""
        stamps: dict[str, FileStamp] = {}
        for callback, files in self._files():
            temporary: Collection[str] = ()
            if isinstance(files, TemporaryFilesAdapter):
                temporary = files.temporary(callback)
            for path in files.replaced(callback):
                if stamp := stamp_of(path):
                    stamps[path] = replace(stamp, temporary=path in temporary)
        return stamps

    def finish_sends(self, seconds: float | None) -> None:
        """Wait for the files and reports that the callbacks still send; log what was not sent.

        Args:
            seconds: how long to wait for all of them at most; None for as long as the limits of
                each request allow.
        """
        end = None if seconds is None else time.monotonic() + seconds
        for held in self:
            left = None if end is None else max(0.0, end - time.monotonic())
            if isinstance(held.callback, DeferredSends):
                held.callback.finish_sends(left)
            elif isinstance(held.adapter, SendingAdapter):
                held.adapter.finish_sends(held.callback, left)

    def send_restored(self) -> None:
        """Send the restored files of a finished fit, which must be the newest of its run."""
        for held in self:
            if isinstance(held.callback, RestoredSends):
                held.callback.send_restored()

    def baseline(self) -> dict[str, int]:
        """Return the baseline values of all callbacks, read before a fit starts."""
        values = (files.baseline(callback) for callback, files in self._files())
        return {name: value for of_callback in values for name, value in of_callback.items()}

    def may_write(self, path: str) -> bool:
        """Return whether a callback writes this file, so that a checkpoint may restore it."""
        return any(files.may_write(callback, path) for callback, files in self._files())

    def report_once(self, record_once: RecordOnce) -> None:
        """Make each callback that sends reports ask `record_once` before each of them.

        A report is named by its address without secrets, which another attempt may have changed.
        """
        counts: Counter[str] = Counter()
        for held in self:
            if isinstance(held.adapter, ReportingAdapter):
                address = held.adapter.address(held.callback)
                name = without_secrets(address)
                counts[name] += 1
                numbered = f"{name} ({counts[name]})" if counts[name] > 1 else name
                held.adapter.report_once(
                    held.callback, partial(_record_epoch, record_once, numbered, address)
                )

    def _files(self) -> Iterator[tuple[Any, FileAdapter]]:
        yield from ((held.callback, held.files) for held in self if held.files)
        yield None, LOG_FILES

    def _match(self, saved: Sequence[State]) -> Iterator[tuple[HeldCallback, State]]:
        """Yield each callback with its saved state: by class, then by order within it."""
        unclaimed: dict[str, list[State | None]] = defaultdict(list)
        for item in saved:
            unclaimed[item["class"]].append(item["state"])
        for held in self:
            if unclaimed[held.name] and (state := unclaimed[held.name].pop(0)) is not None:
                yield held, state


def _refusal(held: HeldCallback, error: Exception) -> Refused:
    """Log that a callback does not take its state; return the exception to raise."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    log.error(
        events.REFUSED,
        callback=held.name,
        reason=f"it does not take the state of the checkpoint: {type(error).__name__}: {error} "
        f"({last.filename}:{last.lineno})",
        fix="let set_state(state) take what get_state() has returned, also that of an earlier "
        "version of the script; or start a new run with --run NAME or --fresh",
    )
    return Refused()


def _record_epoch(record_once: RecordOnce, name: str, address: str, epoch: int) -> bool:
    return record_once(f"{name}-{epoch}", f"{address}-{epoch}")


def _capture(held: HeldCallback) -> FrozenState:
    try:
        return held.capture()
    except RecursionError:
        return _state_that_contains_itself


def _state_that_contains_itself() -> State:
    raise UnsupportedValue("its state contains itself")


@contextmanager
def _entered(contexts: Iterator[AbstractContextManager[None]]) -> Iterator[None]:
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        yield
