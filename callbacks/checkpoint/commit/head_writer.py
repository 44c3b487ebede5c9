"""Compare-and-swap of HEAD by one attempt: unclear outcomes, and a HEAD that has disappeared.

A HEAD that is missing or unreadable does not say who owns the run. The run's objects do: if they
include one of a newer attempt, that attempt owns it; if this attempt's committed checkpoints are
gone, the run was moved or deleted. Otherwise this attempt still owns the run, and writes HEAD anew.
"""

from __future__ import annotations

from contextlib import suppress

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.format.head import Head
from keepfit.callbacks.checkpoint.format.keys import head_key, newest_attempt
from keepfit.callbacks.checkpoint.read.documents import LoadedHead, read_head
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.storage.base import (
    Conflict,
    NotFound,
    StorageError,
    Store,
    Transient,
    Version,
)

log = get_logger()


class Superseded(Exception):
    """Another attempt owns the run now, or the run was moved aside or deleted."""


class HeadWriter:
    """HEAD as one attempt last wrote it. Not thread-safe, like its Attempt.

    Attributes:
        head: the content that was last written, as far as is known.
    """

    def __init__(self, store: Store, head: Head, version: Version) -> None:
        self._store = store
        self._version = version
        self._unresolved: Head | None = None
        self.head = head

    def check(self) -> None:
        """Check that this attempt still owns the run.

        Raises:
            Superseded: a newer attempt owns the run by now, or it was moved aside or deleted.
            StorageError: HEAD could not be read, or is missing and could not be written anew.
        """
        loaded = read_head(self._store, self.head.run)
        if loaded.head is None:
            self._repair(loaded, self._unresolved or self._changed({}))
        elif loaded.head.writer != self.head.writer:
            raise Superseded(f"attempt {loaded.head.attempt} owns the run now")

    def swap(self, changes: dict[str, object]) -> None:
        """Change fields of HEAD; if the response is lost, resolve the outcome by reading HEAD back.

        Raises:
            Superseded: HEAD belongs to another attempt, or the run was moved aside or deleted.
            Transient: the swap did not happen, or reading HEAD back failed too; in that case the
                next swap resolves the outcome first.
            StorageError: HEAD was not changed.
        """
        self.resolve()
        head = self._changed(changes)
        self._unresolved = head
        key = head_key(head.run)
        try:
            version = self._store.swap(key, head.to_bytes(), expected=self._version)
        except (Conflict, Transient) as error:
            if not self.resolve():
                raise Transient(str(error)) from error
        except StorageError:
            self._unresolved = None
            raise
        else:
            self._written(head, version)

    def resolve(self) -> bool:
        """If the outcome of a swap is unknown, read HEAD back.

        A request can also take effect late, after HEAD was read back without it. HEAD is then still
        this writer's, and the manifests that it names are known.

        Returns:
            True if HEAD is now what that swap wrote.

        Raises:
            Superseded: HEAD belongs to another attempt, or the run was moved aside or deleted.
            StorageError: HEAD could not be read; the outcome is still unknown.
        """
        head = self._unresolved
        if head is None:
            return False
        loaded = read_head(self._store, head.run)
        if loaded.head is None or loaded.version is None:
            self._repair(loaded, head)
            return True
        if loaded.head.writer != head.writer:
            raise Superseded(f"attempt {loaded.head.attempt} owns the run now")
        self._written(loaded.head, loaded.version)
        return loaded.head == head

    def _repair(self, found: LoadedHead, head: Head) -> None:
        """Write HEAD anew: `found` is missing or unreadable.

        Args:
            head: the content to write.

        Raises:
            Superseded: the run's objects say that this attempt no longer owns it.
            Transient: the objects could not be listed, or HEAD could not be written; as far as is
                known, this attempt still owns the run.
        """
        key = head_key(head.run)
        problem = f"{self._store.uri}/{key} is {'damaged' if found.version else 'missing'}"
        if found.other:
            raise Superseded(f"{self._store.uri}/{key} {found.other}")
        self._unresolved = head
        try:
            keys = {entry.key for entry in self._store.list(f"{head.run}/")}
            if reason := _lost_to(self.head, keys) or _moved_to(self._store, self.head):
                raise Superseded(f"{problem}, and {reason}")
            version = self._store.swap(key, head.to_bytes(), expected=found.version)
        except StorageError as error:
            raise Transient(f"{problem}, and can't be written anew: {error}") from error
        log.warning(
            events.HEAD_REPAIRED,
            reason=f"{problem}, and no other attempt has written to the run",
            fix="HEAD was written anew; find out what deletes or changes files of the store",
        )
        self._written(head, version)

    def _changed(self, changes: dict[str, object]) -> Head:
        return self.head.model_copy(update={"swaps": self.head.next_swaps, **changes})

    def _written(self, head: Head, version: Version) -> None:
        self.head, self._version, self._unresolved = head, version, None


def _lost_to(head: Head, keys: set[str]) -> str | None:
    """Return why the run with these objects no longer belongs to the attempt that wrote `head`."""
    newest = newest_attempt(head.run, keys)
    if newest > head.attempt:
        return f"attempt {newest} has written to the run"
    if head.checkpoints and head.checkpoints[0] not in keys:
        return "its committed checkpoints are gone: the run was moved aside or deleted"
    return None


def _moved_to(store: Store, head: Head) -> str | None:
    """Return to which name `--fresh` has moved the run of `head`, if it has: it claims it first."""
    for name in store.folders(""):
        if name.startswith(f"{head.run}."):
            with suppress(NotFound, ValueError):
                found = Head.from_bytes(store.load(head_key(name))[0])
                if found.run == head.run and found.attempt > head.attempt:
                    return f"the run was moved aside to {name}"
    return None
