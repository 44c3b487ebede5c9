"""What is read before it is asked for is taken as it is, and nothing depends on it."""

import threading
import time

import pytest

from keepfit.callbacks.checkpoint.prefetch import CheckpointPrefetcher
from keepfit.callbacks.checkpoint.reader import read_manifest, read_newest_usable
from keepfit.callbacks.session import open_session
from keepfit.callbacks.settings import Settings
from keepfit.callbacks.storage.local import LocalStore
from tests.checkpoint.samples import RUN, assert_is, snapshot, take_over, trained

LIMIT = 30


def no_deadline():
    return None


@pytest.fixture
def prefetching(store):
    """Reads the store, as soon as the function is called; ends with the test."""
    begun = []

    def begin():
        begun.append(CheckpointPrefetcher(store.uri, RUN, no_deadline))
        return begun[-1]

    yield begin
    for one in begun:
        one.close()


@pytest.fixture
def reads(monkeypatch):
    """The keys of all shards that are read."""
    keys, read = [], LocalStore.read_into

    def counted(self, key, into):
        keys.append(key)
        return read(self, key, into)

    monkeypatch.setattr(LocalStore, "read_into", counted)
    return keys


def resumed(store, known):
    attempt = take_over(store)
    return read_newest_usable(store, RUN, attempt.head.checkpoints, fit=0, known=known)


def test_shards_are_read_once(store, prefetching, reads):
    """Who resumes reads no shard that was prefetched."""
    trained(store, 1, 2)
    known = prefetching().take()
    read = list(reads)
    assert sorted(read) == sorted(shard.key for shard in known)
    assert_is(resumed(store, known), 2)
    assert reads == read


def test_a_newer_checkpoint_counts(store, prefetching, reads):
    """An older attempt has saved since: of what was read only what is still in force is used."""
    older = trained(store, 1)
    known = prefetching().take()
    older.commit(snapshot(2))
    reads.clear()
    found = resumed(store, known)
    assert_is(found, 2)
    shared = {shard.key for shard in known} & {shard.key for shard in found.manifest.shards}
    assert shared, "the frozen weights are the same"
    assert not shared & set(reads)


def test_what_was_read_is_kept_no_longer_than_it_is_needed(store, prefetching):
    """It is taken once: its memory is a whole checkpoint's."""
    trained(store, 1)
    reading = prefetching()
    assert reading.take()
    assert not reading.take()


@pytest.mark.parametrize("harm", ["flip", "remove"])
def test_damage_is_met_by_who_resumes(store, prefetching, tmp_path, harm):
    """Nothing is taken of a damaged checkpoint, and the one before it is used, as ever."""
    attempt = trained(store, 1, 2)
    manifest = read_manifest(store, RUN, attempt.head.checkpoints[0])
    path = tmp_path / manifest.shards[0].key
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    if harm == "flip":
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


def test_a_store_that_does_not_answer(monkeypatch):
    """It holds nobody up who leaves: what is tried again is given up."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    reading = CheckpointPrefetcher("s3://bucket/runs", RUN, no_deadline)
    assert reading.store() is not None
    began = time.monotonic()
    reading.close()
    assert time.monotonic() - began < LIMIT
    assert not [t for t in threading.enumerate() if t.name.startswith("keepfit-prefetch")]


def test_a_session_reads_ahead_for_the_run_it_was_told(store, reads, monkeypatch):
    """`keepfit run` says which run it will be; another one that the script names is read anew."""
    trained(store, 1)
    monkeypatch.delenv("KEEPFIT_FRESH", raising=False)
    told = Settings.resolve(store=store.uri, run=RUN)
    for asked in (told, told.model_copy(update={"keep": 1})):
        with open_session() as here:
            here.start_prefetch(told)
            _, checkpoint = here.run(asked).begin_fit()
            assert_is(checkpoint, 1)
        assert len(reads) == len(set(reads)), "a shard was read twice"
        reads.clear()


def test_nothing_is_read_ahead_of_a_run_that_begins_anew(store, reads):
    """What it would read is moved aside."""
    trained(store, 1)
    with open_session() as here:
        here.start_prefetch(Settings.resolve(store=store.uri, run=RUN, fresh=True))
    assert not reads
