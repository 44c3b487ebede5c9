"""Faults of every kind between client and S3, at every request of a run."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from queue import SimpleQueue

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.read.file_restore import restore_file
from keepfit.callbacks.checkpoint.read.reader import read_checkpoint
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.storage.base import AlreadyExists, NotFound, StorageError, Transient
from keepfit.callbacks.storage.s3 import multipart
from keepfit.callbacks.storage.s3.retries import RetryPolicy
from tests.checkpoint.samples import RUN, head_of, resume, take_over
from tests.s3 import proxy as faults
from tests.s3.proxy import Proxy, always, at, delayed, scheduled, since, sometimes
from tests.s3.samples import (
    assert_is_small,
    assert_resumes,
    client_at,
    small,
    store_of,
    unfinished,
)

SHORT_READ = RetryPolicy(seconds=20, connect=5, read=0.2, longest_wait=0.01)
"""For servers that do not answer."""

SHORT_RETRIES = RetryPolicy(seconds=0.05, connect=5, read=0.2, longest_wait=0.01)

FAULTS = {
    "503": faults.slow_down,
    "500": faults.internal_error,
    "409": faults.conflict,
    "reset before": faults.reset_before,
    "reset after": faults.reset_after,
    "reset midway": faults.reset_midway,
    "truncated": faults.truncated,
    "first line only": faults.cut_after_first_line,
    "shortened": faults.shortened,
    "flipped": faults.flipped,
    "stalled before": faults.stalled_before,
    "stalled after": faults.stalled_after,
    "stalled midway": faults.stalled_midway,
}

WRITES = ("PUT", "POST")
ONLY = {"409": WRITES, "first line only": ("GET",), "flipped": ("GET",), "shortened": ("GET",)}
"""The methods to which a fault applies, if not to all."""


class Training:
    """An attempt that commits twice, and one that resumes from there, commits and sweeps.

    Attributes:
        committed: the step of the newest commit that has returned.
        tried: the step of the newest commit that was tried.
    """

    def __init__(self, store):
        self._store = store
        self.committed = self.tried = None

    def run(self):
        first = take_over(self._store, keep=1)
        self._commit(first, 1)
        self._commit(first, 2)
        second = take_over(self._store, keep=1)
        found = resume(self._store, second)
        assert_is_small(found, 2)
        self._commit(second, 3)
        second.sweep()

    def _commit(self, attempt, step):
        self.tried = step
        attempt.commit(small(step))
        self.committed = step


LANES = 4
"""Number of trainings at a time: while one waits for a stalled server, others run."""


@pytest.fixture(scope="module")
def lanes(s3):
    """Return a queue of lanes: proxies, each with a client whose requests pass through it."""
    with ExitStack() as stack:
        lanes = SimpleQueue()
        for _ in range(LANES):
            proxy = stack.enter_context(Proxy())
            lanes.put((proxy, client_at(proxy.url, SHORT_READ)))
        yield lanes


def in_lanes(lanes, cases, check):
    """Call `check` for each of the cases, with a proxy and a client of its own."""

    def one(case):
        proxy, client = lanes.get()
        try:
            check(case, proxy, client)
        except AssertionError as error:
            raise AssertionError(f"{case}: {error}") from error
        finally:
            proxy.arm()
            lanes.put((proxy, client))

    with ThreadPoolExecutor(LANES) as pool:
        list(pool.map(one, cases))


@pytest.fixture(scope="module")
def methods(lanes, bucket, direct):
    """Return the methods of all requests of a training, found by a dry run."""
    proxy, client = lanes.get()
    proxy.arm()
    Training(store_of(client, f"{bucket}/dry", SHORT_READ)).run()
    lanes.put((proxy, client))
    assert_resumes(store_of(direct, f"{bucket}/dry"), 3)
    assert len(proxy.requests) > 30
    return [request.method for request in proxy.requests]


def numbers(methods, kind):
    """Return the numbers of the requests to which this kind of fault applies."""
    return [n for n, method in enumerate(methods) if method in ONLY.get(kind, method)]


EVERY = [
    pytest.param(3, id="every third"),
    pytest.param(1, id="every one", marks=pytest.mark.soak),
]


def sample(found, kinds, kind, every):
    """Return a part of the numbers for each kind; all kinds together cover every request."""
    return found[list(kinds).index(kind) % every :: every]


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("kind", FAULTS)
def test_one_fault_at_a_request(kind, every, lanes, methods, fresh):
    """The training succeeds in spite of the fault, and so does the next attempt."""

    def check(number, proxy, client):
        store = fresh()
        proxy.arm(at(number, FAULTS[kind]))
        Training(store_of(client, store.uri, SHORT_READ)).run()
        assert_resumes(store, 3)

    in_lanes(lanes, sample(numbers(methods, kind), FAULTS, kind, every), check)


OUTAGES = ["503", "reset after", "truncated"]


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("kind", OUTAGES)
def test_outage_from_a_request_on(kind, every, lanes, methods, fresh):
    """The attempt fails with Transient, and no committed checkpoint is lost."""

    def check(number, proxy, client):
        store = fresh()
        proxy.arm(since(number, FAULTS[kind]))
        training = Training(store_of(client, store.uri, SHORT_RETRIES))
        with pytest.raises(Transient):
            training.run()
        assert_resumes(store, newest_of(store, training))

    in_lanes(lanes, sample(range(len(methods)), OUTAGES, kind, every), check)


def newest_of(store, training):
    """Return the newest step in HEAD, or None; it is no older than the last successful commit."""
    with suppress(NotFound):
        if checkpoints := head_of(store).checkpoints:
            step = read_checkpoint(store, RUN, checkpoints[0]).manifest.position.step
            assert (training.committed or 0) <= step <= training.tried
            return step
    assert training.committed is None
    return None


QUICK_FAULTS = sorted(kind for kind in FAULTS if "stalled" not in kind)


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    faults=st.dictionaries(st.integers(0, 80), st.sampled_from(QUICK_FAULTS), max_size=40),
    seconds=st.sampled_from([0.02, 0.3, 20]),
)
def test_any_combination_of_faults(faults, seconds, lanes, fresh):
    """The training succeeds or raises a StorageError; HEAD names what was committed."""
    proxy, client = lanes.get()
    try:
        store = fresh()
        proxy.arm(scheduled({n: FAULTS[kind] for n, kind in faults.items()}))
        retries = replace(SHORT_READ, seconds=seconds)
        training = Training(store_of(client, store.uri, retries))
        with suppress(StorageError):
            training.run()
            assert training.committed == 3
        assert_resumes(store, newest_of(store, training))
    finally:
        proxy.arm()
        lanes.put((proxy, client))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(200))
def test_storm(seed, lanes, fresh):
    """If a third of all requests fail in all possible ways, no commit is lost."""
    proxy, client = lanes.get()
    try:
        store = fresh()
        proxy.arm(sometimes(seed, 1 / 3, list(FAULTS.values())))
        training = Training(store_of(client, store.uri, SHORT_READ))
        with suppress(StorageError):
            training.run()
        assert_resumes(store, newest_of(store, training))
    finally:
        proxy.arm()
        lanes.put((proxy, client))


def test_slow_network(proxy, fresh):
    """A slow server is waited for; no request is sent twice."""
    store = fresh()
    client = client_at(proxy.url)
    proxy.arm()
    Training(store_of(client, store.uri)).run()
    asked = len(proxy.requests)
    store = fresh()
    proxy.arm(always(delayed(0.02)))
    Training(store_of(client, store.uri)).run()
    assert len(proxy.requests) == asked
    assert_resumes(store, 3)


PARTS = [b"head", memoryview(bytes(range(256)) * (5 << 12)), b"tail"]
"""An object in two parts: S3 demands 5 MiB of all but the last."""


@pytest.fixture
def in_parts(monkeypatch):
    """Upload objects of more than 1 MiB in parts of 5 MiB."""
    monkeypatch.setattr(multipart, "MAX_SINGLE_PUT", 1 << 20)
    monkeypatch.setattr(multipart, "PART", 5 << 20)


@pytest.mark.parametrize("kind", [kind for kind in FAULTS if ONLY.get(kind, WRITES) == WRITES])
def test_fault_in_an_upload_in_parts(kind, in_parts, lanes, fresh, s3):
    """The object is stored correctly, and abandoned parts can be deleted."""
    whole = b"".join(PARTS)

    def check(number, proxy, client):
        store = fresh()
        proxy.arm(at(number, FAULTS[kind]))
        store_of(client, store.uri, SHORT_READ).put("run/object", PARTS)
        found = bytearray(len(whole))
        store.read_into("run/object", memoryview(found))
        assert found == whole
        store.clear_unfinished("run/")
        assert unfinished(s3, store) == []
        with pytest.raises(AlreadyExists):
            store_of(client, store.uri, SHORT_READ).put("run/object", PARTS)
        store.clear_unfinished("run/")

    in_lanes(lanes, range(4), check)


@pytest.mark.parametrize("lost", range(4))
def test_outage_in_an_upload_in_parts(lost, in_parts, proxy, fresh, s3):
    """A put that gives up leaves no object, or the whole one if only its answer was lost."""
    store = fresh()
    proxy.arm(since(lost, faults.reset_after))
    with pytest.raises(Transient):
        store_of(client_at(proxy.url), store.uri, SHORT_RETRIES).put("run/object", PARTS)
    store.clear_unfinished("run/")
    assert unfinished(s3, store) == []
    sizes = [entry.size for entry in store.list("run/")]
    assert sizes == ([len(b"".join(PARTS))] if lost == 3 else [])


@pytest.mark.parametrize(
    "fault", [faults.flipped, faults.shortened, faults.truncated, faults.cut_after_first_line]
)
def test_corrupt_answer_is_read_again(fault, proxy, fresh):
    """HEAD, a manifest or a shard that is corrupted in transit is read again, not rejected."""
    store = fresh()
    Training(store).run()
    behind_proxy = store_of(client_at(proxy.url), store.uri)
    with capture_logs() as logs:
        for number in range(4):
            proxy.arm(at(number, fault))
            head = head_of(behind_proxy)
            assert_is_small(read_checkpoint(behind_proxy, RUN, head.checkpoints[0]), 3)
            assert len(proxy.requests) == 5, "one more than without the fault"
    assert {entry["event"] for entry in logs} <= {events.STORE_RETRY}


def test_corrupt_answer_is_not_taken_for_another_object(proxy, fresh):
    """A put whose answer was lost compares the stored object, not a corrupted copy of it."""
    store = fresh()
    behind_proxy = store_of(client_at(proxy.url), store.uri)
    proxy.arm(scheduled({0: faults.reset_after, 2: faults.flipped}))
    behind_proxy.put("run/object", [b"content"])
    assert [request.method for request in proxy.requests] == ["PUT", "PUT", "GET", "PUT", "GET"]
    assert store.load("run/object")[0] == b"content"


@pytest.mark.parametrize("fault", [faults.flipped, faults.shortened, faults.reset_midway])
def test_corrupt_part_of_a_file_is_read_again(fault, proxy, fresh, tmp_path):
    """An append-only file that is corrupted in transit is restored correctly."""
    store, path = fresh(), tmp_path / "log.csv"
    attempt = take_over(store)
    path.write_bytes(b"epoch,loss\n")
    (file,) = attempt.commit(
        replace(small(1), append_only_files={str(path): path.stat().st_size})
    ).manifest.files
    path.unlink()
    proxy.arm(at(0, fault))
    assert restore_file(store_of(client_at(proxy.url), store.uri), file)
    assert path.read_bytes() == b"epoch,loss\n"
    assert len(proxy.requests) == 2


def test_read_continues_where_it_was_interrupted(proxy, fresh):
    """A large object is not read from its beginning again."""
    content = bytes(range(256)) * (3 << 12)
    store = fresh()
    store.put("run/object", [content])
    proxy.arm(at(0, faults.truncated))
    found = bytearray(len(content))
    store_of(client_at(proxy.url), store.uri).read_into("run/object", memoryview(found))
    assert found == content
    first, second = (dict(request.headers)["Range"] for request in proxy.requests)
    assert first == f"bytes=0-{len(content) - 1}"
    assert int(second.removeprefix("bytes=").split("-")[0]) >= 1 << 20


def test_upload_whose_answer_was_lost_and_whose_key_was_taken(proxy, fresh):
    """An existing object of another writer is never taken for one's own."""
    store = fresh()
    store.put("run/object", [b"another's"])
    proxy.arm(at(0, faults.reset_before))
    with pytest.raises(AlreadyExists):
        store_of(client_at(proxy.url), store.uri).put("run/object", [b"own"])
    assert store.load("run/object")[0] == b"another's"


def test_deadline_ends_the_retries(proxy, fresh):
    """Before a deadline of the machine, a failure is reported while there is time to act."""
    store, now = fresh(), [0.0]
    retries = RetryPolicy(seconds=60, longest_wait=0.01, deadline=lambda: 1.0, clock=lambda: now[0])

    def slow_answer(exchange):
        now[0] += 0.4
        faults.slow_down(exchange)

    proxy.arm(always(slow_answer))
    with pytest.raises(Transient, match="SlowDown"):
        store_of(client_at(proxy.url, retries), store.uri, retries).load("run/object")
    assert len(proxy.requests) == 3
