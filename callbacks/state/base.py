"""How the state of one class of callbacks is read and put back."""

from __future__ import annotations

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


@runtime_checkable
class WritesLog(Adapter, Protocol):
    """For a callback with an append-only file, which has to agree with the checkpoint."""

    def path(self, callback: Any) -> str:
        """Of the file."""

    def reopening(self, callback: Any, state: State) -> AbstractContextManager[None]:
        """Surrounds the `on_train_begin` that opens the file, so that it goes on from `state`."""


@dataclass(frozen=True)
class Held:
    """A callback inside Resumable, and how its state is kept."""

    callback: Any
    adapter: Adapter

    @property
    def name(self) -> str:
        return type(self.callback).__name__
