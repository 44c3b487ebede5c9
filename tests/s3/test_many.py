"""Runs of many checkpoints: what an attempt asks of S3, counted."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from keepfit.callbacks.checkpoint.claim import claim_run
from keepfit.callbacks.checkpoint.inspection import find_orphans, summarize
from keepfit.callbacks.checkpoint.manifest import manifest_key
from keepfit.callbacks.checkpoint.reader import read_newest_usable
from keepfit.callbacks.checkpoint.retention import KeepNewest
from tests.checkpoint.samples import RUN, VERSIONS, head_of, resume, take_over
from tests.s3.samples import assert_goes_on, assert_is_small, client_at, small, store_of

MANY = [
    pytest.param(500, id="500"),
    pytest.param(10_000, id="10,000", marks=pytest.mark.soak),
]


def begun(store, keep=1):
    """A run with one checkpoint, at step 5."""
    attempt = take_over(store, keep)
    attempt.commit(small(5))
    return attempt


def add_orphans(store, count):
    """Manifests of an older attempt that HEAD does not name, with lower and with higher steps."""
    content = store.load(head_of(store).checkpoints[0])[0]
    keys = [manifest_key(RUN, step, 1, 1) for step in range(count)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, [content]), keys))
    return keys


def asked(proxy):
    """How often what was asked: the kinds of requests by method and key, HEAD told apart."""
    return Counter(
        (request.method, "listing" if request.query.startswith("list") else kind(request.path))
        for request in proxy.requests
    )


def kind(path):
    name = path.rpartition("/")[2]
    return name if name == "HEAD.json" else "object" if "/run/" in path else "bucket"


@pytest.mark.parametrize("count", MANY)
def test_newest_of_many_is_found_at_once(count, proxy, fresh):
    """One GET of HEAD says which it is; nothing is listed, and the number costs nothing."""
    store = fresh()
    begun(store)
    counted = store_of(client_at(proxy.url), store.uri)

    def take_up():
        proxy.arm()
        attempt = take_over(counted, keep=1)
        assert_is_small(resume(counted, attempt), 5)
        return asked(proxy)

    take_up()  # which also proves that the server knows conditions
    alone = take_up()
    add_orphans(store, count)
    among_many = take_up()
    assert among_many == alone
    assert alone[("GET", "HEAD.json")] == 1
    assert alone[("PUT", "HEAD.json")] == 1
    assert not [what for what in alone if "listing" in what]
    proxy.arm()
    attempt = take_over(counted, keep=1)
    attempt.commit(small(6))
    with_orphans = asked(proxy)
    assert with_orphans[("DELETE", "object")] == 3, "the one that it replaces, and no other"
    proxy.arm()
    summarize(counted, RUN)
    assert len(proxy.requests) <= 4
    proxy.arm()
    assert len(find_orphans(counted, RUN)) == count
    listings = -(-(count + 4) // 1000)
    assert asked(proxy)[("GET", "listing")] == listings
    assert len(proxy.requests) <= listings + 3
    proxy.arm()
    attempt.sweep()
    assert asked(proxy)[("DELETE", "object")] == count
    assert asked(proxy)[("GET", "listing")] == listings
    assert_goes_on(store, 6)


def test_sweep_costs_a_request_for_each_orphan(proxy, fresh):
    """Twice as many orphans cost twice the deletions, and one listing for each thousand."""
    found = {}
    for count in (0, 300, 600):
        store = fresh()
        begun(store)
        add_orphans(store, count)
        attempt = resumed(store_of(client_at(proxy.url), store.uri))
        proxy.arm()
        attempt.sweep()
        found[count] = len(proxy.requests)
        assert len(list(store.list(f"{RUN}/checkpoints/"))) == 1
    assert found[0] == 2
    assert found[600] - found[300] == found[300] - found[0] == 300


def resumed(store, keep=1):
    attempt = take_over(store, keep)
    resume(store, attempt)
    return attempt


def test_prune_costs_what_it_deletes(proxy, fresh):
    """A commit that prunes asks for no more than one that doesn't, but for the deletions."""
    store = fresh()
    attempt = resumed(store_of(client_at(proxy.url), store.uri), keep=3)
    costs = []
    for step in range(1, 9):
        proxy.arm()
        attempt.commit(small(step))
        costs.append(len(proxy.requests))
    assert costs == [4] * 3 + [4 + 3] * 5


def test_prune_of_many_at_once_grows_linearly(proxy, fresh):
    """An attempt that keeps less than the one before it deletes the rest with its first commit."""
    costs = []
    for kept in (20, 40):
        store = fresh()
        attempt = take_over(store, keep=kept)
        for step in range(kept):
            attempt.commit(small(step))
        attempt = resumed(store_of(client_at(proxy.url), store.uri), keep=1)
        proxy.arm()
        attempt.commit(small(kept))
        costs.append(asked(proxy)[("DELETE", "object")])
        assert_goes_on(store, kept)
    assert costs == [3 * 20, 3 * 40]


def test_claim_reads_each_checkpoint_in_force_once(proxy, fresh):
    """To know what must never be deleted costs a small GET for each that is kept."""
    store = fresh()
    attempt = take_over(store, keep=40)
    counted = store_of(client_at(proxy.url), store.uri)
    take_over(counted, keep=40)
    attempt = take_over(store, keep=40)
    costs = []
    for kept in (20, 40):
        for step in range(len(costs) * 20, kept):
            attempt.commit(small(step))
        proxy.arm()
        attempt = claim_run(counted, RUN, retention=KeepNewest(40), versions=VERSIONS)
        costs.append(len(proxy.requests))
    assert costs == [2 + 20, 2 + 40]


def test_newest_is_read_although_thousands_are_in_force(proxy, fresh):
    """HEAD names them all; only the first is asked for."""
    store = fresh()
    begun(store)
    (newest,) = head_of(store).checkpoints
    older = [manifest_key(RUN, step, 1, 7) for step in range(5_000)]
    proxy.arm()
    found = read_newest_usable(
        store_of(client_at(proxy.url), store.uri), RUN, [newest, *older], fit=0
    )
    assert_is_small(found, 5)
    assert asked(proxy) == {("GET", "object"): 4}
