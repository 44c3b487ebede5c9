"""Read the journals of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from keepfit.callbacks.checkpoint.format.keys import journal_attempt, journals_prefix
from keepfit.callbacks.checkpoint.format.limits import MAX_NUMBER
from keepfit.callbacks.journal.document import Journal
from keepfit.callbacks.storage.base import Damaged, NotFound, StorageError, Store, Transient

MAX_JOURNALS: Final = 10_000
"""Largest number of attempts whose journals are read."""

MAX_JOURNAL_BYTES: Final = 4 << 20
"""Largest journal that is read."""


@dataclass(frozen=True)
class RunJournals:
    """The journals of a run.

    Attributes:
        journals: the readable ones, in the order of their attempts.
        unreadable: why others can't be read, by number of the attempt.
        left_out: number of older journals that were not read, since there are too many.
    """

    journals: tuple[Journal, ...] = ()
    unreadable: Mapping[int, str] = field(default_factory=dict)
    left_out: int = 0

    def missing(self, attempts: int) -> tuple[int, ...]:
        """Return the numbers of the attempts without a journal.

        Attempts of a keepfit before 0.2 have none, nor has one that could not write it.

        Args:
            attempts: the number of the newest attempt, from HEAD.
        """
        known = {journal.attempt for journal in self.journals} | self.unreadable.keys()
        return tuple(n for n in range(1, min(attempts, MAX_JOURNALS) + 1) if n not in known)


def read_journals(
    store: Store, run: str, *, before: int = MAX_NUMBER + 1, at_most: int = MAX_JOURNALS
) -> RunJournals:
    """Read the journals of a run. One that can't be read does not hide the others.

    Args:
        before: only those of attempts before this one.
        at_most: number of journals; the newest ones are read if there are more.

    Raises:
        Transient: the store does not answer.
        StorageError: they can't be listed.
    """
    entries = store.list(journals_prefix(run))
    numbered = ((journal_attempt(run, entry.key), entry.key) for entry in entries)
    keys = {number: key for number, key in numbered if number is not None and number < before}
    newest = sorted(keys.items())[-at_most:]
    journals, unreadable = [], {}
    for number, key in newest:
        try:
            journal = Journal.from_bytes(store.load(key, MAX_JOURNAL_BYTES)[0])
            if (journal.run, journal.attempt) != (run, number):
                raise Damaged(f"it is the journal of attempt {journal.attempt} of {journal.run!r}")
        except NotFound:
            continue
        except Transient:
            raise
        except (StorageError, ValueError) as error:
            unreadable[number] = str(error)
        else:
            journals.append(journal)
    return RunJournals(tuple(journals), unreadable, len(keys) - len(newest))
