"""The records of reports: each is sent once, however often its epoch is trained."""

from __future__ import annotations

from keepfit.callbacks.checkpoint.format.keys import report_key, reports_prefix
from keepfit.callbacks.storage.base import AlreadyExists, Store


class ReportRecords:
    """The names that a run has recorded. Any thread may use it."""

    def __init__(self, store: Store, run: str) -> None:
        self._store = store
        self._run = run
        self._before: frozenset[str] | None = None

    def record_once(self, name: str, former: str) -> bool:
        """Atomically record `name`; return True if this run had not recorded it before.

        Args:
            former: the name under which keepfit 0.1 has recorded it. It may contain a secret, so it
                is looked for in a listing, and neither requested nor written.

        Raises:
            StorageError: it is unknown whether it had been recorded before.
        """
        if former != name and report_key(self._run, former) in self._recorded_before():
            return False
        try:
            self._store.put(report_key(self._run, name), [b"1"])
        except AlreadyExists:
            return False
        return True

    def _recorded_before(self) -> frozenset[str]:
        """Return the keys that earlier attempts have written; no other attempt adds one now."""
        if self._before is None:
            entries = self._store.list(reports_prefix(self._run))
            self._before = frozenset(entry.key for entry in entries)
        return self._before
