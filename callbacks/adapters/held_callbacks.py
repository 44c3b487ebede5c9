"""Functions over all callbacks inside one Resumable: their states, files and reports."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import structlog

from keepfit.callbacks import events
from keepfit.callbacks.adapters import registry
from keepfit.callbacks.adapters.base import (
    DeferredSends,
    HeldCallback,
    RecordOnce,
    ReportingAdapter,
    RestoredSends,
    SendingAdapter,
    State,
)
from keepfit.callbacks.checkpoint.codec import Array, UnsupportedValue, encode
from keepfit.callbacks.checkpoint.snapshot import FileStamp, Json, stamp_of
from keepfit.callbacks.exactness import ExactnessGuard

log = structlog.get_logger("keepfit")


def hold_callbacks(
    callbacks: Sequence[Any], guard: ExactnessGuard | None = None
) -> list[HeldCallback]:
    """Return each callback with its adapters. Call this before training changes any of them."""
    return [registry.hold_callback(callback, guard or ExactnessGuard()) for callback in callbacks]


def capture(
    callbacks: Sequence[HeldCallback],
    arrays: dict[str, Array],
    guard: ExactnessGuard | None = None,
) -> list[Json]:
    """Return the class and the encoded state of each callback; add the arrays to `arrays`.

    A state that can't be stored is reported as an exactness warning; training continues without it.
    """
    entries: list[Json] = []
    for i, held in enumerate(callbacks):
        state = None
        try:
            state = encode(held.get(), f"state/callbacks/{i}", arrays)
        except (UnsupportedValue, RecursionError) as error:
            reason = (
                "its state contains itself" if isinstance(error, RecursionError) else str(error)
            )
            (guard or ExactnessGuard()).report(
                events.STATE_LOST,
                callback=held.name,
                reason=reason,
                fix="return plain values and arrays from get_state(); otherwise the callback "
                "starts over when the run is resumed",
            )
        entries.append({"class": held.name, "state": state})
    return entries


def restore(callbacks: Sequence[HeldCallback], saved: Sequence[State]) -> None:
    """Restore the state of each callback; report saved states without a callback in the log."""
    for held, state in _match(callbacks, saved):
        held.set(state)
    present = Counter(held.name for held in callbacks)
    for name, count in (Counter(item["class"] for item in saved) - present).items():
        log.warning(events.STATE_UNCLAIMED, callback=name, count=count)


@contextmanager
def starting_files(
    callbacks: Sequence[HeldCallback], baseline: Mapping[str, int]
) -> Iterator[None]:
    """Surround `set_model` and `on_train_begin` of all callbacks in a fit that is not resumed."""
    with ExitStack() as stack:
        for held in callbacks:
            if held.files:
                stack.enter_context(held.files.starting(held.callback, baseline))
        yield


@contextmanager
def resuming_files(
    callbacks: Sequence[HeldCallback], saved: Sequence[State], sizes: Mapping[str, int]
) -> Iterator[None]:
    """Surround `set_model` and `on_train_begin` of all callbacks in a fit that is resumed.

    Their files continue from the states in `saved`.
    """
    with ExitStack() as stack:
        for held, state in _match(callbacks, saved):
            if held.files:
                known_state = held.known_state(state)
                stack.enter_context(held.files.resuming(held.callback, known_state, sizes))
        yield


def _match(
    callbacks: Sequence[HeldCallback], saved: Sequence[State]
) -> Iterator[tuple[HeldCallback, State]]:
    """Yield each callback that has a saved state, with it: by class, then by order within it."""
    unclaimed: dict[str, list[State | None]] = defaultdict(list)
    for item in saved:
        unclaimed[item["class"]].append(item["state"])
    for held in callbacks:
        if unclaimed[held.name] and (state := unclaimed[held.name].pop(0)) is not None:
            yield held, state


def append_only_files(callbacks: Sequence[HeldCallback]) -> dict[str, int]:
    """Flush the callbacks' append-only files, and return their sizes in bytes, by path."""
    with_files = ((held, held.files) for held in callbacks if held.files)
    return {
        k: size
        for held, files in with_files
        for k, size in files.append_only(held.callback).items()
    }


def replaced_files(callbacks: Sequence[HeldCallback]) -> dict[str, FileStamp]:
    """Return the existing files that the callbacks replace as a whole, each with its stamp."""
    with_files = ((held, held.files) for held in callbacks if held.files)
    paths = (path for held, files in with_files for path in files.replaced(held.callback))
    return {path: stamp for path in paths if (stamp := stamp_of(path))}


def finish_sends(callbacks: Sequence[HeldCallback], seconds: float | None) -> None:
    """Wait for the files and reports that the callbacks still send; log what was not sent.

    Args:
        seconds: how long to wait for all of them at most; None for as long as the limits of each
            request allow.
    """
    end = None if seconds is None else time.monotonic() + seconds
    for held in callbacks:
        left = None if end is None else max(0.0, end - time.monotonic())
        if isinstance(held.callback, DeferredSends):
            held.callback.finish_sends(left)
        elif isinstance(held.adapter, SendingAdapter):
            held.adapter.finish_sends(held.callback, left)


def send_restored(callbacks: Sequence[HeldCallback]) -> None:
    """Send the restored files of a finished fit, which must be the newest of its run."""
    for held in callbacks:
        if isinstance(held.callback, RestoredSends):
            held.callback.send_restored()


def baseline(callbacks: Sequence[HeldCallback]) -> dict[str, int]:
    """Return the baseline values of all callbacks, read before a fit starts."""
    with_files = ((held, held.files) for held in callbacks if held.files)
    return {k: n for held, files in with_files for k, n in files.baseline(held.callback).items()}


def may_write(callbacks: Sequence[HeldCallback], path: str) -> bool:
    """Return whether a callback writes this file, so that a checkpoint may restore it."""
    return any(held.files and held.files.may_write(held.callback, path) for held in callbacks)


def report_once(callbacks: Sequence[HeldCallback], record_once: RecordOnce) -> None:
    """Make each callback that sends reports ask `record_once` before each of them."""
    for held in callbacks:
        if isinstance(held.adapter, ReportingAdapter):
            held.adapter.report_once(held.callback, record_once)
