"""The journal of an attempt in a store."""

from __future__ import annotations

import pytest

from keepfit.callbacks.checkpoint.format.keys import journal_attempt, journal_key, parse_key
from keepfit.callbacks.journal.document import Journal
from keepfit.callbacks.journal.read import read_journals
from keepfit.callbacks.journal.write import JournalWriter
from keepfit.callbacks.storage.base import Transient
from keepfit.callbacks.storage.local import LocalStore
from tests.journal.factory import journal


class Counting(LocalStore):
    """A store that counts requests, and whose next swap has an unknown outcome if asked for."""

    unclear = False

    def __init__(self, folder):
        super().__init__(folder)
        self.requests = []

    def swap(self, key, body, *, expected):
        self.requests.append("swap")
        version = super().swap(key, body, expected=expected)
        if self.unclear:
            self.unclear = False
            raise Transient("no answer")
        return version

    def version_of(self, key):
        self.requests.append("version_of")
        return super().version_of(key)


def test_one_request_each_time(tmp_path):
    """Each state of the journal replaces the one before, by one request."""
    store, states = Counting(tmp_path), [None, journal(steps=25), journal(steps=50)]
    writer = JournalWriter(store, lambda: states[0])
    writer.write()  # nothing before the claim
    assert store.requests == []
    for _ in range(2):
        states.pop(0)
        writer.write()
    assert store.requests == ["swap"] * 2
    assert read_journals(store, "run").journals == (journal(steps=50),)


def test_after_a_request_without_an_answer(tmp_path):
    """Whether it was written or not, the next state replaces it."""
    store, states = Counting(tmp_path), iter([25, 50, 75])
    writer = JournalWriter(store, lambda: journal(steps=next(states)))
    writer.write()
    store.unclear = True
    with pytest.raises(Transient):
        writer.write()
    writer.write()
    assert store.requests == ["swap", "swap", "swap", "version_of", "swap"]
    assert read_journals(store, "run").journals == (journal(steps=75),)


def test_unreadable_journals_are_named(tmp_path):
    """One that is damaged, or another attempt's, blinds no other."""
    store = LocalStore(tmp_path)
    for number in (1, 2, 3):
        store.swap(journal_key("run", number), journal(attempt=number).to_bytes(), expected=None)
    (tmp_path / journal_key("run", 2)).write_bytes(b"{}")
    store.swap(journal_key("run", 4), journal(attempt=1).to_bytes(), expected=None)
    found = read_journals(store, "run")
    assert [each.attempt for each in found.journals] == [1, 3]
    assert found.unreadable.keys() == {2, 4}
    assert "it is the journal of attempt 1" in found.unreadable[4]
    assert found.missing(6) == (5, 6)


def test_only_the_newest_are_read(tmp_path):
    """The number of those left out is known."""
    store = LocalStore(tmp_path)
    for number in range(1, 8):
        store.swap(journal_key("run", number), journal(attempt=number).to_bytes(), expected=None)
    found = read_journals(store, "run", before=7, at_most=4)
    assert [each.attempt for each in found.journals] == [3, 4, 5, 6]
    assert found.left_out == 2


def test_attempts_of_the_run_that_fresh_moved_aside(tmp_path):
    """They are none of this run, even if one is still alive and writes its journal."""
    store = LocalStore(tmp_path)
    for number in (3, 4, 6):
        store.swap(journal_key("run", number), journal(attempt=number).to_bytes(), expected=None)
    found = read_journals(store, "run", first=4)
    assert [each.attempt for each in found.journals] == [4, 6]
    assert found.missing(6) == (5,)


def test_the_key_of_a_journal():
    """It is that of one attempt, and nothing that keepfit deletes."""
    key = journal_key("run", 12)
    assert key == "run/attempts/0012.json"
    assert journal_attempt("run", key) == 12
    assert journal_attempt("other", key) is None
    assert journal_attempt("run", "run/attempts/../0012.json") is None
    assert parse_key("run", key) is None


def test_a_journal_is_sealed():
    """One changed byte is found."""
    content = journal().to_bytes()
    with pytest.raises(ValueError, match="digest"):
        Journal.from_bytes(content.replace(b'"attempt":1', b'"attempt":2'))
