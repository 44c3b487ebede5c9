"""The protocols of adapters, which read and restore the state of one class of callbacks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from keepfit.callbacks.adapters.frozen import freeze, share
from keepfit.callbacks.checkpoint.format.state_schema import Fields, InvalidState, check_fields

State = dict[str, Any]
"""Plain values and arrays; see checkpoint/format/codec.py."""


class Adapter(Protocol):
    """An adapter that reads and restores the state of a callback."""

    def get(self, callback: Any) -> State:
        """Return the current state. Its arrays are shared and must not be changed in place."""

    def set(self, callback: Any, state: State) -> None:
        """Restore the state, after `on_train_begin` has reset the callback."""

    def check(self, callback: Any, state: State) -> None:
        """Check a state from a store, of which nothing is known, before any of it is restored.

        Raises:
            InvalidState: `get` could not have returned it.
        """


class KnownAdapter(Adapter, Protocol):
    """An adapter for one of Keras' callback classes.

    Attributes:
        state: types of the attributes that training changes, by name; no others are ever set.
        config: names of the attributes that the script sets.
        handles: names of all other attributes, which live no longer than the process. Together the
            three name every attribute of the class, so that a test notices when Keras adds one.
    """

    @property
    def state(self) -> Fields: ...
    @property
    def config(self) -> Sequence[str]: ...
    @property
    def handles(self) -> Sequence[str]: ...


FrozenState = Callable[[], State]
"""Returns a state as it was when it was captured; called on the writer's thread."""


@runtime_checkable
class ModelStateAdapter(Protocol):
    """An adapter of a state that has to fit the model."""

    def check_against(self, state: State, model: Any) -> None:
        """Compare a state from a store with the model, if that is built. Raises InvalidState."""


@runtime_checkable
class CapturingAdapter(Protocol):
    """An adapter of the user's own objects, which may change all that they have in place.

    Any other adapter returns from `get` what its class of Keras replaces and does not change.
    """

    def capture(self, callback: Any) -> FrozenState:
        """Freeze the current state as fast as possible: training waits."""


@runtime_checkable
class BeginningAdapter(Protocol):
    """An adapter that looks at what `on_train_begin` sets in each attempt."""

    def beginning(self, callback: Any) -> AbstractContextManager[None]:
        """Return a context for `on_train_begin` of the callback."""


def capture(adapter: Adapter, callback: Any) -> FrozenState:
    """Freeze the state of a callback.

    Raises:
        RecursionError: the state contains itself.
    """
    if isinstance(adapter, CapturingAdapter):
        return adapter.capture(callback)
    state: State = freeze(adapter.get(callback), share)
    return lambda: state


@runtime_checkable
class FileAdapter(Protocol):
    """An adapter for a callback that writes files, which have to agree with the checkpoint."""

    def append_only(self, callback: Any) -> Mapping[str, int]:
        """Flush the callback's append-only files, and return their sizes in bytes, by path."""

    def replaced(self, callback: Any) -> Sequence[str]:
        """Return the paths of the files that the callback replaces as a whole."""

    def may_write(self, callback: Any, path: str) -> bool:
        """Return whether the script itself names this file, so that a checkpoint may restore it."""

    def baseline(self, callback: Any) -> Mapping[str, int]:
        """Return baseline values (for example file sizes), read before the callback starts.

        HEAD stores the values of the first start of this fit, for all later attempts.
        """

    def starting(self, callback: Any, baseline: Mapping[str, int]) -> AbstractContextManager[None]:
        """Return a context for `set_model` and `on_train_begin` in a fit that is not resumed.

        Args:
            baseline: the baseline values at the first start of this fit. The attempt that started
                it may have left files behind.
        """

    def resuming(
        self, callback: Any, state: State, sizes: Mapping[str, int]
    ) -> AbstractContextManager[None]:
        """Return a context for `set_model` and `on_train_begin` in a fit that is resumed.

        Args:
            state: the adapter's state at the checkpoint.
            sizes: the sizes in bytes of the append-only files at the checkpoint, by path.
        """


@dataclass(frozen=True)
class AttributeAdapter:
    """Adapter for callbacks whose state is a few attributes.

    Attributes:
        state, config, handles: see KnownAdapter.
    """

    state: Fields = field(default_factory=dict)
    config: Sequence[str] = ()
    handles: Sequence[str] = ()

    def get(self, callback: Any) -> State:
        return {name: getattr(callback, name) for name in self.state if hasattr(callback, name)}

    def set(self, callback: Any, state: State) -> None:
        for name, value in state.items():
            setattr(callback, name, value)

    def check(self, callback: Any, state: State) -> None:
        check_fields(state, {}, self.state)


@runtime_checkable
class TemporaryFilesAdapter(Protocol):
    """An adapter for a callback that removes files when they are no longer needed."""

    def temporary(self, callback: Any) -> Collection[str]:
        """Return the paths of such files, out of those that `replaced` returns."""


RecordOnce = Callable[[str, str], bool]
"""Atomically records a name; returns True if this run had not recorded it before.

The second argument is the name under which keepfit 0.1 has recorded it.
"""


@runtime_checkable
class ReportingAdapter(Protocol):
    """An adapter for a callback that sends reports, none of which may be sent twice."""

    def address(self, callback: Any) -> str:
        """Return the URL to which the callback reports; it may contain a secret."""

    def report_once(self, callback: Any, record_once: Callable[[int], bool]) -> None:
        """Make the callback ask `record_once` before it reports an epoch from now on."""


@runtime_checkable
class ReportingCallback(Protocol):
    """A callback that sends reports from a thread of its own."""

    def report_once(self, record_once: Callable[[int], bool]) -> None:
        """Ask `record_once`, on the thread, before each epoch is reported.

        It may raise StorageError: it is unknown whether the epoch was reported before.
        """


@runtime_checkable
class DeferredSends(Protocol):
    """A callback that sends files or reports from a thread of its own.

    Nothing of this may stand between training and its last save, so inside Resumable `on_train_end`
    does not wait for it.
    """

    def defer_sends(self) -> None:
        """Let `on_train_end` only hand over what is still to be sent. Called before training."""

    def finish_sends(self, seconds: float | None) -> None:
        """Wait for what is still to be sent, log what was not sent, and stop the thread.

        Args:
            seconds: how long to wait at most; None for as long as the limits of each request allow.
        """


@runtime_checkable
class RestoredSends(Protocol):
    """A callback whose files may have been restored without having been sent."""

    def send_restored(self) -> None:
        """Send the files on this machine: those of a fit that an earlier attempt has finished.

        That attempt was killed after the final save, before everything was sent. Only the newest
        fit of a run has such files; those of an earlier one would replace newer ones.
        """


@runtime_checkable
class SendingAdapter(Protocol):
    """An adapter that sends from a thread what a callback of Keras sends itself."""

    def finish_sends(self, callback: Any, seconds: float | None) -> None:
        """Finish as a callback with DeferredSends does."""


@dataclass(frozen=True)
class HeldCallback:
    """A callback inside Resumable, with the adapters that keep its state.

    Attributes:
        adapter: keeps the state of its class, or of the known class that it is derived from.
        own: keeps the attributes that a class derived from a known one has added.
        files: keeps the files that the callback writes.
    """

    callback: Any
    adapter: Adapter
    own: Adapter | None = None
    files: FileAdapter | None = None

    @property
    def name(self) -> str:
        return type(self.callback).__name__

    def capture(self) -> FrozenState:
        """Freeze the current state.

        Raises:
            RecursionError: the state contains itself.
        """
        known = capture(self.adapter, self.callback)
        if self.own is None:
            return known
        own = capture(self.own, self.callback)
        return lambda: {"known": known(), "own": own()}

    def beginning(self) -> AbstractContextManager[None]:
        """Return a context for the callback's `on_train_begin`."""
        for adapter in (self.adapter, self.own):
            if isinstance(adapter, BeginningAdapter):
                return adapter.beginning(self.callback)
        return nullcontext()

    def check(self, state: object, model: Any) -> None:
        """Check a state from a store, which may have to fit the model. Raises InvalidState."""
        if not isinstance(state, dict):
            raise InvalidState(f"{self.name}: its state is a {type(state).__name__}")
        try:
            if self.own:
                check_fields(state, {"known": dict, "own": dict})
                self.own.check(self.callback, state["own"])
            known = self.known_state(state)
            self.adapter.check(self.callback, known)
            if isinstance(self.adapter, ModelStateAdapter):
                self.adapter.check_against(known, model)
        except InvalidState as error:
            raise InvalidState(f"{self.name}: {error}") from error

    def set(self, state: State) -> None:
        """Restore the state, which `check` has accepted."""
        self.adapter.set(self.callback, self.known_state(state))
        if self.own:
            self.own.set(self.callback, state["own"])

    def known_state(self, state: State) -> State:
        """Return the part of a stored state that belongs to `adapter`."""
        known: State = state["known"] if self.own else state
        return known
