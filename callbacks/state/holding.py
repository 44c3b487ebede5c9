"""The callbacks inside one Resumable: their state together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import structlog

from callbacks import events
from callbacks.checkpoint.codec import Array, Unstorable, encode
from callbacks.checkpoint.snapshot import Json
from callbacks.state import adapters
from callbacks.state.base import Held, State, WritesLog

log = structlog.get_logger("keepfit")


def hold(callbacks: Sequence[Any]) -> list[Held]:
    """Each callback with its adapter. To be called before training changes any of them."""
    return [adapters.held(callback) for callback in callbacks]


def capture(callbacks: Sequence[Held], arrays: dict[str, Array]) -> list[Json]:
    """The state of each callback with its class, encoded; its arrays are put into `arrays`.

    A state that can't be stored is named in the log, and training goes on without it.
    """
    found: list[Json] = []
    for i, held in enumerate(callbacks):
        state = None
        try:
            state = encode(held.get(), f"state/callbacks/{i}", arrays)
        except Unstorable as error:
            log.error(events.STATE_LOST, callback=held.name, reason=str(error))
        except RecursionError:
            log.error(events.STATE_LOST, callback=held.name, reason="its state holds itself")
        found.append({"class": held.name, "state": state})
    return found


def restore(callbacks: Sequence[Held], saved: Sequence[State]) -> None:
    """Put back the state of each; what no callback claims is named in the log."""
    for held, state in _match(callbacks, saved):
        held.set(state)
    there = Counter(held.name for held in callbacks)
    for name, count in (Counter(item["class"] for item in saved) - there).items():
        log.warning(events.STATE_UNCLAIMED, callback=name, count=count)


@contextmanager
def reopening(callbacks: Sequence[Held], saved: Sequence[State]) -> Iterator[None]:
    """Surrounds the `on_train_begin` of all callbacks, so that their logs go on from `saved`."""
    with ExitStack() as stack:
        for held, state in _match(callbacks, saved):
            if isinstance(held.adapter, WritesLog):
                stack.enter_context(held.adapter.reopening(held.callback, held.known(state)))
        yield


def _match(callbacks: Sequence[Held], saved: Sequence[State]) -> Iterator[tuple[Held, State]]:
    """Each callback with its saved state, if it has one: by class, and by order within it."""
    waiting: dict[str, list[State | None]] = defaultdict(list)
    for item in saved:
        waiting[item["class"]].append(item["state"])
    for held in callbacks:
        if waiting[held.name] and (state := waiting[held.name].pop(0)) is not None:
            yield held, state


def log_files(callbacks: Sequence[Held]) -> list[str]:
    """The append-only files that the callbacks write."""
    return [
        held.adapter.path(held.callback)
        for held in callbacks
        if isinstance(held.adapter, WritesLog)
    ]
