"""How the state of one class of callbacks is read and put back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


class KnownAdapter(Adapter, Protocol):
    """For a class of Keras'.

    Attributes:
        state: the names of the attributes that training changes.
        config: the names of those that the script sets.
        handles: the names of all others, which live no longer than the process. All three together
            are all there are, so that a test can tell when Keras adds one.
    """

    @property
    def state(self) -> Sequence[str]: ...
    @property
    def config(self) -> Sequence[str]: ...
    @property
    def handles(self) -> Sequence[str]: ...


@runtime_checkable
class FileAdapter(Protocol):
    """For a callback that writes files, which have to agree with the checkpoint."""

    def append_only(self, callback: Any) -> Mapping[str, int]:
        """Its append-only files, flushed: the size of each in bytes, by path."""

    def replaced(self, callback: Any) -> Sequence[str]:
        """The files that it replaces as a whole."""

    def may_write(self, callback: Any, path: str) -> bool:
        """Whether the script itself names this file, so that a checkpoint may bring it back."""

    def baseline(self, callback: Any) -> Mapping[str, int]:
        """What to remember of the time before the fit began, in whichever attempt that was."""

    def starting(self, callback: Any, baseline: Mapping[str, int]) -> AbstractContextManager[None]:
        """Surrounds `set_model` and `on_train_begin` in a fit that begins anew.

        Args:
            first: what `first` gave in the first attempt; it may have left files behind.
        """

    def resuming(
        self, callback: Any, state: State, sizes: Mapping[str, int]
    ) -> AbstractContextManager[None]:
        """The same in a fit that is resumed.

        Args:
            state: what the adapter gave at the checkpoint.
            sizes: of the append-only files at the checkpoint.
        """


RecordOnce = Callable[[str], bool]
"""Whether something happens for the first time in the whole run, given a name for it."""


@runtime_checkable
class ReportingAdapter(Protocol):
    """For a callback that tells the outside world, which must not be told twice."""

    def report_once(self, callback: Any, record_once: RecordOnce) -> None:
        """Ask `record_once` before each report from now on."""


@runtime_checkable
class UploadingCallback(Protocol):
    """A callback that sends files from a thread of its own."""

    def flush(self) -> None:
        """Wait until what has been sent by now has arrived or is given up."""


@dataclass(frozen=True)
class HeldCallback:
    """A callback inside Resumable, and how its state is kept.

    Attributes:
        own: for the attributes that a class derived from a known one has added.
        files: for what it writes.
    """

    callback: Any
    adapter: Adapter
    own: Adapter | None = None
    files: FileAdapter | None = None

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
