"""Everything that can go wrong between us and S3, at every request of a run."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from queue import SimpleQueue

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.files import restore_file
from keepfit.callbacks.checkpoint.reader import read_checkpoint
from keepfit.callbacks.storage.base import AlreadyExists, NotFound, StorageError, Transient
from keepfit.callbacks.storage.s3 import multipart
from keepfit.callbacks.storage.s3.retries import RetryPolicy
from tests.checkpoint.samples import RUN, head_of, resume, take_over
from tests.s3 import proxy as faults
from tests.s3.proxy import Proxy, always, at, late, scheduled, since, sometimes
from tests.s3.samples import (
    assert_goes_on,
    assert_is_small,
    client_at,
    small,
    store_of,
    unfinished,
)

IMPATIENT = RetryPolicy(seconds=20, connect=5, read=0.2, longest_wait=0.01)
"""For servers that say nothing."""

GIVES_UP = RetryPolicy(seconds=0.05, connect=5, read=0.2, longest_wait=0.01)

FAULTS = {
    "503": faults.slow_down,
    "500": faults.internal_error,
    "409": faults.conflict,
    "reset before": faults.reset_before,
    "reset after": faults.reset_after,
    "reset midway": faults.reset_midway,
    "truncated": faults.truncated,
    "beheaded": faults.beheaded,
    "shortened": faults.shortened,
    "flipped": faults.flipped,
    "stalled before": faults.stalled_before,
    "stalled after": faults.stalled_after,
    "stalled midway": faults.stalled_midway,
}

WRITES = ("PUT", "POST")
ONLY = {"409": WRITES, "beheaded": ("GET",), "flipped": ("GET",), "shortened": ("GET",)}
"""The methods that a fault can meet, where not all."""


class Training:
    """An attempt that commits twice, and one that goes on from there and tidies up.

    Attributes:
        sure: the step of the newest commit that has returned.
        begun: the step of the newest commit that was tried.
    """

    def __init__(self, store):
        self._store = store
        self.sure = self.begun = None

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
        self.begun = step
        attempt.commit(small(step))
        self.sure = step


LANES = 4
"""Trainings at a time: a server that stalls leaves time for others."""


@pytest.fixture(scope="module")
def lanes(s3):
    """Proxies, each with a client whose requests pass it."""
    with ExitStack() as stack:
        lanes = SimpleQueue()
        for _ in range(LANES):
            proxy = stack.enter_context(Proxy())
            lanes.put((proxy, client_at(proxy.url, IMPATIENT)))
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
    """The methods of all requests of a training, by a dry run."""
    proxy, client = lanes.get()
    proxy.arm()
    Training(store_of(client, f"{bucket}/dry", IMPATIENT)).run()
    lanes.put((proxy, client))
    assert_goes_on(store_of(direct, f"{bucket}/dry"), 3)
    assert len(proxy.requests) > 30
    return [request.method for request in proxy.requests]


def numbers(methods, kind):
    """Of the requests that this kind of fault can meet."""
    return [n for n, method in enumerate(methods) if method in ONLY.get(kind, method)]


EVERY = [
    pytest.param(3, id="every third"),
    pytest.param(1, id="every one", marks=pytest.mark.soak),
]


def sample(found, kinds, kind, every):
    """Kinds take turns, so that together they meet every request."""
    return found[list(kinds).index(kind) % every :: every]


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("kind", FAULTS)
def test_one_fault_at_a_request(kind, every, lanes, methods, fresh):
    """The training ends as if nothing had been, and so does the next attempt."""

    def check(number, proxy, client):
        store = fresh()
        proxy.arm(at(number, FAULTS[kind]))
        Training(store_of(client, store.uri, IMPATIENT)).run()
        assert_goes_on(store, 3)

    in_lanes(lanes, sample(numbers(methods, kind), FAULTS, kind, every), check)


OUTAGES = ["503", "reset after", "truncated"]


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("kind", OUTAGES)
def test_outage_from_a_request_on(kind, every, lanes, methods, fresh):
    """The attempt is told that S3 can't be reached, and nothing that was committed is lost."""

    def check(number, proxy, client):
        store = fresh()
        proxy.arm(since(number, FAULTS[kind]))
        training = Training(store_of(client, store.uri, GIVES_UP))
        with pytest.raises(Transient):
            training.run()
        assert_goes_on(store, newest_of(store, training))

    in_lanes(lanes, sample(range(len(methods)), OUTAGES, kind, every), check)


def newest_of(store, training):
    """The step that HEAD names first, if there is one; no older than what is surely committed."""
    with suppress(NotFound):
        if checkpoints := head_of(store).checkpoints:
            step = read_checkpoint(store, RUN, checkpoints[0]).manifest.position.step
            assert (training.sure or 0) <= step <= training.begun
            return step
    assert training.sure is None
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
    """The training ends well or with the store's own error; in force is what was committed."""
    proxy, client = lanes.get()
    try:
        store = fresh()
        proxy.arm(scheduled({n: FAULTS[kind] for n, kind in faults.items()}))
        retries = replace(IMPATIENT, seconds=seconds)
        training = Training(store_of(client, store.uri, retries))
        with suppress(StorageError):
            training.run()
            assert training.sure == 3
        assert_goes_on(store, newest_of(store, training))
    finally:
        proxy.arm()
        lanes.put((proxy, client))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(200))
def test_storm(seed, lanes, fresh):
    """Where a third of all requests fail in every way there is, each commit still counts."""
    proxy, client = lanes.get()
    try:
        store = fresh()
        proxy.arm(sometimes(seed, 1 / 3, list(FAULTS.values())))
        training = Training(store_of(client, store.uri, IMPATIENT))
        with suppress(StorageError):
            training.run()
        assert_goes_on(store, newest_of(store, training))
    finally:
        proxy.arm()
        lanes.put((proxy, client))


def test_slow_network(proxy, fresh):
    """A server that takes its time is waited for; nothing is asked twice."""
    store = fresh()
    client = client_at(proxy.url)
    proxy.arm()
    Training(store_of(client, store.uri)).run()
    asked = len(proxy.requests)
    store = fresh()
    proxy.arm(always(late(0.02)))
    Training(store_of(client, store.uri)).run()
    assert len(proxy.requests) == asked
    assert_goes_on(store, 3)


PARTS = [b"head", memoryview(bytes(range(256)) * (5 << 12)), b"tail"]
"""An object in two parts: S3 wants 5 MiB of all but the last."""


@pytest.fixture
def in_parts(monkeypatch):
    monkeypatch.setattr(multipart, "MAX_SINGLE_PUT", 1 << 20)
    monkeypatch.setattr(multipart, "PART", 5 << 20)


@pytest.mark.parametrize("kind", [kind for kind in FAULTS if ONLY.get(kind, WRITES) == WRITES])
def test_fault_in_an_upload_in_parts(kind, in_parts, lanes, fresh, s3):
    """The object is there as it was written, and what was begun in vain can be cleared."""
    whole = b"".join(PARTS)

    def check(number, proxy, client):
        store = fresh()
        proxy.arm(at(number, FAULTS[kind]))
        store_of(client, store.uri, IMPATIENT).put("run/object", PARTS)
        found = bytearray(len(whole))
        store.read_into("run/object", memoryview(found))
        assert found == whole
        store.clear_unfinished("run/")
        assert unfinished(s3, store) == []
        with pytest.raises(AlreadyExists):
            store_of(client, store.uri, IMPATIENT).put("run/object", PARTS)
        store.clear_unfinished("run/")

    in_lanes(lanes, range(4), check)


@pytest.mark.parametrize("lost", range(4))
def test_outage_in_an_upload_in_parts(lost, in_parts, proxy, fresh, s3):
    """Whoever gives up leaves no object, or the whole one whose answer was lost."""
    store = fresh()
    proxy.arm(since(lost, faults.reset_after))
    with pytest.raises(Transient):
        store_of(client_at(proxy.url), store.uri, GIVES_UP).put("run/object", PARTS)
    store.clear_unfinished("run/")
    assert unfinished(s3, store) == []
    sizes = [entry.size for entry in store.list("run/")]
    assert sizes == ([len(b"".join(PARTS))] if lost == 3 else [])


@pytest.mark.parametrize(
    "harm", [faults.flipped, faults.shortened, faults.truncated, faults.beheaded]
)
def test_corrupt_answer_is_read_again(harm, proxy, fresh):
    """HEAD, a manifest and a shard: none is taken for damaged that was harmed on its way."""
    store = fresh()
    Training(store).run()
    harmed = store_of(client_at(proxy.url), store.uri)
    with capture_logs() as logs:
        for number in range(4):
            proxy.arm(at(number, harm))
            head = head_of(harmed)
            assert_is_small(read_checkpoint(harmed, RUN, head.checkpoints[0]), 3)
            assert len(proxy.requests) == 5, "one more than without the fault"
    assert {entry["event"] for entry in logs} <= {events.STORE_RETRY}


def test_corrupt_answer_is_not_taken_for_another_object(proxy, fresh):
    """A put whose answer was lost compares what is there, and not with a damaged copy."""
    store = fresh()
    harmed = store_of(client_at(proxy.url), store.uri)
    proxy.arm(scheduled({0: faults.reset_after, 2: faults.flipped}))
    harmed.put("run/object", [b"content"])
    assert [request.method for request in proxy.requests] == ["PUT", "PUT", "GET", "PUT", "GET"]
    assert store.load("run/object")[0] == b"content"


@pytest.mark.parametrize("harm", [faults.flipped, faults.shortened, faults.reset_midway])
def test_log_that_is_harmed_on_its_way_is_read_again(harm, proxy, fresh, tmp_path):
    """A file that grows with the training comes back whole."""
    store, path = fresh(), tmp_path / "log.csv"
    attempt = take_over(store)
    path.write_bytes(b"epoch,loss\n")
    (log,) = attempt.commit(
        replace(small(1), append_only_files={str(path): path.stat().st_size})
    ).files
    path.unlink()
    proxy.arm(at(0, harm))
    assert restore_file(store_of(client_at(proxy.url), store.uri), log)
    assert path.read_bytes() == b"epoch,loss\n"
    assert len(proxy.requests) == 2


def test_read_goes_on_where_it_broke(proxy, fresh):
    """A large object is not asked for from its beginning again."""
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
    """Another's object of that name is never taken for one's own."""
    store = fresh()
    store.put("run/object", [b"theirs"])
    proxy.arm(at(0, faults.reset_before))
    with pytest.raises(AlreadyExists):
        store_of(client_at(proxy.url), store.uri).put("run/object", [b"mine"])
    assert store.load("run/object")[0] == b"theirs"


def test_deadline_ends_the_tries(proxy, fresh):
    """When the machine is about to go, a failure is told at once, while there is time for it."""
    store, now = fresh(), [0.0]
    retries = RetryPolicy(seconds=60, longest_wait=0.01, deadline=lambda: 1.0, clock=lambda: now[0])

    def passing(exchange):
        now[0] += 0.4
        faults.slow_down(exchange)

    proxy.arm(always(passing))
    with pytest.raises(Transient, match="SlowDown"):
        store_of(client_at(proxy.url, retries), store.uri, retries).load("run/object")
    assert len(proxy.requests) == 3
