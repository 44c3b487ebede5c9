"""The callbacks inside one Resumable: their state together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import structlog

from keepfit.callbacks import events
from keepfit.callbacks.adapters import registry
from keepfit.callbacks.adapters.base import (
    HeldCallback,
    RecordOnce,
    ReportingAdapter,
    State,
    UploadingCallback,
)
from keepfit.callbacks.checkpoint.codec import Array, UnsupportedValue, encode
from keepfit.callbacks.checkpoint.snapshot import FileStamp, Json, stamp_of
from keepfit.callbacks.exactness import ExactnessGuard

log = structlog.get_logger("keepfit")


def hold_callbacks(
    callbacks: Sequence[Any], guard: ExactnessGuard | None = None
) -> list[HeldCallback]:
    """Each callback with its adapter. To be called before training changes any of them."""
    return [registry.hold_callback(callback, guard or ExactnessGuard()) for callback in callbacks]


def capture(
    callbacks: Sequence[HeldCallback],
    arrays: dict[str, Array],
    guard: ExactnessGuard | None = None,
) -> list[Json]:
    """The state of each callback with its class, encoded; its arrays are put into `arrays`.

    A state that can't be stored is named in the log, and training goes on without it.
    """
    found: list[Json] = []
    for i, held in enumerate(callbacks):
        state = None
        try:
            state = encode(held.get(), f"state/callbacks/{i}", arrays)
        except (UnsupportedValue, RecursionError) as error:
            reason = "its state holds itself" if isinstance(error, RecursionError) else str(error)
            (guard or ExactnessGuard()).report(
                events.STATE_LOST,
                callback=held.name,
                reason=reason,
                fix="let get_state() give plain values and arrays; until then it begins anew",
            )
        found.append({"class": held.name, "state": state})
    return found


def restore(callbacks: Sequence[HeldCallback], saved: Sequence[State]) -> None:
    """Put back the state of each; what no callback claims is named in the log."""
    for held, state in _match(callbacks, saved):
        held.set(state)
    there = Counter(held.name for held in callbacks)
    for name, count in (Counter(item["class"] for item in saved) - there).items():
        log.warning(events.STATE_UNCLAIMED, callback=name, count=count)


@contextmanager
def starting_files(
    callbacks: Sequence[HeldCallback], baseline: Mapping[str, int]
) -> Iterator[None]:
    """Surrounds `set_model` and `on_train_begin` of all callbacks in a fit that begins anew."""
    with ExitStack() as stack:
        for held in callbacks:
            if held.files:
                stack.enter_context(held.files.starting(held.callback, baseline))
        yield


@contextmanager
def resuming_files(
    callbacks: Sequence[HeldCallback], saved: Sequence[State], sizes: Mapping[str, int]
) -> Iterator[None]:
    """The same in a fit that is resumed, so that their files go on from `saved`."""
    with ExitStack() as stack:
        for held, state in _match(callbacks, saved):
            if held.files:
                known = held.known(state)
                stack.enter_context(held.files.resuming(held.callback, known, sizes))
        yield


def _match(
    callbacks: Sequence[HeldCallback], saved: Sequence[State]
) -> Iterator[tuple[HeldCallback, State]]:
    """Each callback with its saved state, if it has one: by class, and by order within it."""
    waiting: dict[str, list[State | None]] = defaultdict(list)
    for item in saved:
        waiting[item["class"]].append(item["state"])
    for held in callbacks:
        if waiting[held.name] and (state := waiting[held.name].pop(0)) is not None:
            yield held, state


def append_only_files(callbacks: Sequence[HeldCallback]) -> dict[str, int]:
    """The append-only files that the callbacks write, flushed: their sizes in bytes, by path."""
    keeping = ((held, held.files) for held in callbacks if held.files)
    return {
        k: size for held, files in keeping for k, size in files.append_only(held.callback).items()
    }


def replaced_files(callbacks: Sequence[HeldCallback]) -> dict[str, FileStamp]:
    """The files that the callbacks replace as a whole, if they are there."""
    keeping = ((held, held.files) for held in callbacks if held.files)
    paths = (path for held, files in keeping for path in files.replaced(held.callback))
    return {path: mark for path in paths if (mark := stamp_of(path))}


def pending_uploads(callbacks: Sequence[HeldCallback]) -> list[Callable[[], None]]:
    """What each waits for before a checkpoint may say that its files are written."""
    return [h.callback.flush for h in callbacks if isinstance(h.callback, UploadingCallback)]


def baseline(callbacks: Sequence[HeldCallback]) -> dict[str, int]:
    """What to remember of the time before a fit begins."""
    keeping = ((held, held.files) for held in callbacks if held.files)
    return {k: n for held, files in keeping for k, n in files.baseline(held.callback).items()}


def may_write(callbacks: Sequence[HeldCallback], path: str) -> bool:
    """Whether one of the callbacks writes this file, so that a checkpoint may bring it back."""
    return any(held.files and held.files.may_write(held.callback, path) for held in callbacks)


def report_once(callbacks: Sequence[HeldCallback], record_once: RecordOnce) -> None:
    """Have those that tell the outside world ask `record_once` before they do."""
    for held in callbacks:
        if isinstance(held.adapter, ReportingAdapter):
            held.adapter.report_once(held.callback, record_once)
