"""Write the journal of one attempt."""

from __future__ import annotations

from collections.abc import Callable

from keepfit.callbacks.checkpoint.format.keys import journal_key
from keepfit.callbacks.journal.document import Journal
from keepfit.callbacks.storage.base import Conflict, Store, Version


class JournalWriter:
    """Writes the newest state of a journal; one thread uses it.

    One request writes it, as no other attempt does. A second and third one are needed only after a
    request whose outcome is unknown.

    Args:
        journal: returns the present journal; None if there is none.
    """

    def __init__(self, store: Store, journal: Callable[[], Journal | None]) -> None:
        self._store = store
        self._journal = journal
        self._version: Version | None = None

    def write(self) -> None:
        """Write the journal.

        Raises:
            StorageError: it was not written, or it is unknown whether it was.
        """
        journal = self._journal()
        if journal is None:
            return
        key, body = journal_key(journal.run, journal.attempt), journal.to_bytes()
        try:
            self._version = self._store.swap(key, body, expected=self._version)
        except Conflict:
            # An earlier request has succeeded after all, or HEAD was lost and numbers are new.
            self._version = self._store.version_of(key)
            self._version = self._store.swap(key, body, expected=self._version)
