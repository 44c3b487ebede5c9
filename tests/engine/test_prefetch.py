"""Shards that are prefetched are used if they are still needed, and nothing depends on them."""

import gc
import threading
import time
import weakref
from dataclasses import replace

import pytest

from keepfit.callbacks.checkpoint.read.documents import read_manifest
from keepfit.callbacks.checkpoint.read.reader import read_newest_usable
from keepfit.callbacks.engine.prefetch import CheckpointPrefetcher
from keepfit.callbacks.engine.session import open_session
from keepfit.callbacks.settings import Settings
from keepfit.callbacks.storage.local import LocalStore
from tests.checkpoint.samples import RUN, assert_is, snapshot, take_over, trained
from tests.engine.fits import AnyFit

LIMIT = 30


def no_deadline():
    return None


@pytest.fixture
def prefetching(store):
    """Return a function that starts a prefetcher of the store; it is closed after the test."""
    started = []

    def start():
        started.append(CheckpointPrefetcher(store.uri, RUN, no_deadline))
        return started[-1]

    yield start
    for prefetcher in started:
        prefetcher.close()


@pytest.fixture
def reads(monkeypatch):
    """Return the keys of all shards that are read."""
    keys, read = [], LocalStore.read_into

    def counted(self, key, into):
        keys.append(key)
        return read(self, key, into)

    monkeypatch.setattr(LocalStore, "read_into", counted)
    return keys


def resumed(store, prefetched):
    """Claim the run and return the checkpoint that it resumes from, given the prefetched shards."""
    attempt = take_over(store)
    return read_newest_usable(store, RUN, attempt.head.checkpoints, fit=0, prefetched=prefetched)


def test_shards_are_read_once(store, prefetching, reads):
    """The resuming attempt reads no shard that was prefetched."""
    trained(store, 1, 2)
    known = prefetching().take()
    prefetched = list(reads)
    assert sorted(prefetched) == sorted(shard.key for shard in known)
    assert_is(resumed(store, known), 2)
    assert reads == prefetched


def test_newer_checkpoint_since_the_prefetch(store, prefetching, reads):
    """If an older attempt has saved since, only prefetched shards that are still named are used."""
    older = trained(store, 1)
    known = prefetching().take()
    older.commit(snapshot(2))
    reads.clear()
    found = resumed(store, known)
    assert_is(found, 2)
    shared = {shard.key for shard in known} & {shard.key for shard in found.manifest.shards}
    assert shared, "the frozen weights are the same"
    assert not shared & set(reads)


def test_prefetched_shards_are_taken_once(store, prefetching):
    """Shards are handed over once: they take as much memory as a whole checkpoint."""
    trained(store, 1)
    prefetcher = prefetching()
    assert prefetcher.take()
    assert not prefetcher.take()


@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_damaged_checkpoint_is_not_prefetched(store, prefetching, tmp_path, damage):
    """No shard of a damaged checkpoint is used; the resuming attempt falls back as usual."""
    attempt = trained(store, 1, 2)
    manifest = read_manifest(store, RUN, attempt.head.checkpoints[0])
    path = tmp_path / manifest.shards[0].key
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    if damage == "flip":
        path.write_bytes(content)
    known = prefetching().take()
    assert not known
    assert_is(resumed(store, known), 1)


@pytest.mark.parametrize("content", [None, b"no HEAD"])
def test_nothing_to_read(store, prefetching, tmp_path, content):
    """A run that does not exist, or whose HEAD is damaged, is not prefetched."""
    if content:
        (tmp_path / RUN).mkdir()
        (tmp_path / RUN / "HEAD.json").write_bytes(content)
    assert not prefetching().take()


def test_unreachable_store(monkeypatch):
    """It does not delay a process that exits: pending retries are given up."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    prefetcher = CheckpointPrefetcher("s3://bucket/runs", RUN, no_deadline)
    assert prefetcher.store() is not None
    began = time.monotonic()
    prefetcher.close()
    assert time.monotonic() - began < LIMIT
    assert not [t for t in threading.enumerate() if t.name.startswith("keepfit-prefetch")]


def test_session_prefetches_the_named_run(store, reads, monkeypatch):
    """`keepfit run` names the run to prefetch; another one that the script names is read anew."""
    trained(store, 1)
    monkeypatch.delenv("KEEPFIT_FRESH", raising=False)
    settings = Settings.resolve(store=store.uri, run=RUN)
    for asked in (settings, replace(settings, keep=1)):
        with open_session() as session:
            session.start_prefetch(settings)
            start = session.run(asked).begin_fit(AnyFit())
            assert_is(start.checkpoint, 1)
        assert len(reads) == len(set(reads)), "a shard was read twice"
        reads.clear()


def test_what_was_read_for_another_run_is_released(store, monkeypatch):
    """A script that names its run itself does not hold the checkpoint of the command's run."""
    trained(store, 1)
    with open_session() as session:
        session.start_prefetch(Settings.resolve(store=store.uri, run=RUN))
        prefetcher = weakref.ref(session._prefetcher)
        session.run(Settings.resolve(store=store.uri, run="other"))
        gc.collect()
        assert prefetcher() is None


def test_fresh_run_is_not_prefetched(store, reads):
    """With `fresh` the run is moved aside, so nothing of it is prefetched."""
    trained(store, 1)
    with open_session() as session:
        session.start_prefetch(Settings.resolve(store=store.uri, run=RUN, fresh=True))
    assert not reads
