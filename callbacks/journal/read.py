"""Read the journals of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from keepfit.callbacks.checkpoint.format.keys import journal_attempt, journals_prefix
from keepfit.callbacks.checkpoint.format.limits import MAX_NUMBER
from keepfit.callbacks.journal.document import Journal
from keepfit.callbacks.storage.base import Damaged, Entry, NotFound, StorageError, Store, Transient

MAX_JOURNALS: Final = 10_000
"""Largest number of attempts whose journals are read."""

MAX_JOURNAL_BYTES: Final = 4 << 20
"""Largest journal that is read."""

MAX_TOTAL_BYTES: Final = 128 << 20
"""Bytes of all journals that are read at once, the newest first: parsed, they take a multiple."""


@dataclass(frozen=True)
class RunJournals:
    """The journals of a run.

    Attributes:
        journals: the readable ones, in the order of their attempts.
        unreadable: why others can't be read, by number of the attempt.
        left_out: number of older journals that were not read, since there are too many.
        first: number of the first attempt of the run.
    """

    journals: tuple[Journal, ...] = ()
    unreadable: Mapping[int, str] = field(default_factory=dict)
    left_out: int = 0
    first: int = 1

    def missing(self, attempts: int) -> tuple[int, ...]:
        """Return the numbers of the attempts without a journal.

        Attempts of a keepfit before 0.2 have none, nor has one that could not write it.

        Args:
            attempts: the number of the newest attempt, from HEAD.
        """
        known = {journal.attempt for journal in self.journals} | self.unreadable.keys()
        return tuple(
            n
            for n in range(self.first, min(attempts, self.first + MAX_JOURNALS) + 1)
            if n not in known
        )


def read_journals(
    store: Store,
    run: str,
    *,
    first: int = 1,
    before: int = MAX_NUMBER + 1,
    at_most: int = MAX_JOURNALS,
) -> RunJournals:
    """Read the journals of a run. One that can't be read does not hide the others.

    Args:
        first: number of the first attempt of the run; see Head.first_attempt.
        before: only those of attempts before this one.
        at_most: number of journals; the newest ones are read if there are more, or if they have
            more than MAX_TOTAL_BYTES.

    Raises:
        Transient: the store does not answer.
        StorageError: they can't be listed.
    """
    entries = store.list(journals_prefix(run))
    numbered = ((journal_attempt(run, entry.key), entry) for entry in entries)
    found = {n: entry for n, entry in numbered if n is not None and first <= n < before}
    newest = _newest(found, at_most)
    journals, unreadable = [], {}
    for number, entry in newest:
        try:
            journal = Journal.from_bytes(store.load(entry.key, MAX_JOURNAL_BYTES)[0])
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
    return RunJournals(tuple(journals), unreadable, len(found) - len(newest), first)


def _newest(found: Mapping[int, Entry], at_most: int) -> list[tuple[int, Entry]]:
    """Return the newest journals by number that are read, at most MAX_TOTAL_BYTES of them."""
    left, kept = MAX_TOTAL_BYTES, []
    for number in sorted(found, reverse=True)[:at_most]:
        size = found[number].size
        left -= size if size <= MAX_JOURNAL_BYTES else 0  # a larger one is not read
        if left < 0:
            break
        kept.append((number, found[number]))
    return kept[::-1]
