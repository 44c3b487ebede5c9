"""How the state of one class of callbacks is read and put back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

State = dict[str, Any]
"""Plain values and arrays, see checkpoint/codec.py."""


class Adapter(Protocol):
    """Knows where a callback keeps its state."""

    def get(self, callback: Any) -> State:
        """Its state now. Arrays are shared, so they must not be changed in place later."""

    def set(self, callback: Any, state: State) -> None:
        """Put it back, after `on_train_begin` has reset the callback."""


class Known(Adapter, Protocol):
    """For a class of Keras'.

    Attributes:
        state: the names of the attributes that training changes.
        config: the names of all others, so that a test can tell when Keras adds one.
    """

    @property
    def state(self) -> Sequence[str]: ...
    @property
    def config(self) -> Sequence[str]: ...


@runtime_checkable
class WritesLog(Adapter, Protocol):
    """For a callback with an append-only file, which has to agree with the checkpoint."""

    def path(self, callback: Any) -> str:
        """Of the file."""

    def reopening(self, callback: Any, state: State) -> AbstractContextManager[None]:
        """Surrounds the `on_train_begin` that opens the file, so that it goes on from `state`."""


@dataclass(frozen=True)
class Held:
    """A callback inside Resumable, and how its state is kept.

    Attributes:
        own: for the attributes that a class derived from a known one has added.
    """

    callback: Any
    adapter: Adapter
    own: Adapter | None = None

    @property
    def name(self) -> str:
        return type(self.callback).__name__

    def get(self) -> State:
        known = self.adapter.get(self.callback)
        return {"known": known, "own": self.own.get(self.callback)} if self.own else known

    def set(self, state: State) -> None:
        self.adapter.set(self.callback, self.known(state))
        if self.own:
            self.own.set(self.callback, state["own"])

    def known(self, state: State) -> State:
        """The adapter's part of it."""
        found: State = state["known"] if self.own else state
        return found
