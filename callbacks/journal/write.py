"""Write the journal of one attempt."""

from __future__ import annotations

from collections.abc import Callable

from keepfit.callbacks.checkpoint.format.keys import journal_key
from keepfit.callbacks.journal.document import Journal
from keepfit.callbacks.storage.base import Store, Version
from keepfit.callbacks.storage.overwriting import overwrite


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
        key = journal_key(journal.run, journal.attempt)
        self._version = overwrite(self._store, key, journal.to_bytes(), self._version)
