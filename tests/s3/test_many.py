"""The number of requests to S3 in runs of many checkpoints."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from keepfit.callbacks.checkpoint.commit.claim import claim_run
from keepfit.callbacks.checkpoint.format.keys import manifest_key
from keepfit.callbacks.checkpoint.read.inspection import find_orphans, summarize
from keepfit.callbacks.checkpoint.read.reader import read_newest_usable
from keepfit.callbacks.checkpoint.retention import KeepNewest
from tests.checkpoint.samples import RUN, VERSIONS, head_of, resume, take_over
from tests.s3.samples import assert_is_small, assert_resumes, client_at, small, store_of

MANY = [
    pytest.param(500, id="500"),
    pytest.param(10_000, id="10,000", marks=pytest.mark.soak),
]


def with_checkpoint(store, keep=1):
    """Create a run with one checkpoint, at step 5."""
    attempt = take_over(store, keep)
    attempt.commit(small(5))
    return attempt


def add_orphans(store, count):
    """Add manifests of an older attempt that HEAD does not name, with lower and higher steps."""
    content = store.load(head_of(store).checkpoints[0])[0]
    keys = [manifest_key(RUN, step, 1, 1) for step in range(count)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, [content]), keys))
    return keys


def count_requests(proxy):
    """Return the number of requests by method and kind of object."""
    return Counter(
        (request.method, "listing" if request.query.startswith("list") else kind(request.path))
        for request in proxy.requests
    )


def kind(path):
    """Return what a path names: HEAD.json, another object of the run, or the bucket."""
    name = path.rpartition("/")[2]
    return name if name == "HEAD.json" else "object" if "/run/" in path else "bucket"


@pytest.mark.parametrize("count", MANY)
def test_newest_of_many_is_found_at_once(count, proxy, fresh):
    """One GET of HEAD finds it; nothing is listed, and the number of objects does not matter."""
    store = fresh()
    with_checkpoint(store)
    counted = store_of(client_at(proxy.url), store.uri)

    def claim_and_resume():
        proxy.arm()
        attempt = take_over(counted, keep=1)
        assert_is_small(resume(counted, attempt), 5)
        return count_requests(proxy)

    claim_and_resume()  # also checks once that the server supports conditional writes
    alone = claim_and_resume()
    add_orphans(store, count)
    among_many = claim_and_resume()
    assert among_many == alone
    assert alone[("GET", "HEAD.json")] == 1
    assert alone[("PUT", "HEAD.json")] == 1
    assert not [what for what in alone if "listing" in what]
    proxy.arm()
    attempt = take_over(counted, keep=1)
    attempt.commit(small(6))
    with_orphans = count_requests(proxy)
    assert with_orphans[("DELETE", "object")] == 3, "only the checkpoint that it replaces"
    proxy.arm()
    summarize(counted, RUN)
    assert len(proxy.requests) <= 4
    proxy.arm()
    assert len(find_orphans(counted, RUN)) == count
    listings = -(-(count + 4) // 1000)
    assert count_requests(proxy)[("GET", "listing")] == listings
    assert len(proxy.requests) <= listings + 3
    proxy.arm()
    attempt.sweep()
    assert count_requests(proxy)[("DELETE", "object")] == count
    assert count_requests(proxy)[("GET", "listing")] == listings
    assert_resumes(store, 6)


def test_sweep_costs_a_request_for_each_orphan(proxy, fresh):
    """Twice as many orphans cost twice the deletions, and one listing per thousand."""
    found = {}
    for count in (0, 300, 600):
        store = fresh()
        with_checkpoint(store)
        add_orphans(store, count)
        attempt = resumed(store_of(client_at(proxy.url), store.uri))
        proxy.arm()
        attempt.sweep()
        found[count] = len(proxy.requests)
        assert len(list(store.list(f"{RUN}/checkpoints/"))) == 1
    assert found[0] == 2
    assert found[600] - found[300] == found[300] - found[0] == 300


def resumed(store, keep=1):
    """Return a new attempt that has resumed from the newest checkpoint."""
    attempt = take_over(store, keep)
    resume(store, attempt)
    return attempt


def test_prune_costs_what_it_deletes(proxy, fresh):
    """A commit that prunes sends the same requests as one that doesn't, plus the deletions."""
    store = fresh()
    attempt = resumed(store_of(client_at(proxy.url), store.uri), keep=3)
    costs = []
    for step in range(1, 9):
        proxy.arm()
        attempt.commit(small(step))
        costs.append(len(proxy.requests))
    assert costs == [4] * 3 + [4 + 3] * 5


def test_prune_of_many_at_once_grows_linearly(proxy, fresh):
    """An attempt with a smaller `keep` deletes the rest with its first commit."""
    costs = []
    for kept in (20, 40):
        store = fresh()
        attempt = take_over(store, keep=kept)
        for step in range(kept):
            attempt.commit(small(step))
        attempt = resumed(store_of(client_at(proxy.url), store.uri), keep=1)
        proxy.arm()
        attempt.commit(small(kept))
        costs.append(count_requests(proxy)[("DELETE", "object")])
        assert_resumes(store, kept)
    assert costs == [3 * 20, 3 * 40]


def test_claim_reads_each_committed_manifest_once(proxy, fresh):
    """Knowing what must never be deleted costs one small GET per kept checkpoint."""
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


def test_only_the_newest_of_thousands_is_read(proxy, fresh):
    """HEAD names thousands of checkpoints; only the first is read."""
    store = fresh()
    with_checkpoint(store)
    (newest,) = head_of(store).checkpoints
    older = [manifest_key(RUN, step, 1, 7) for step in range(5_000)]
    proxy.arm()
    found = read_newest_usable(
        store_of(client_at(proxy.url), store.uri), RUN, [newest, *older], fit=0
    )
    assert_is_small(found, 5)
    manifest, shards = 1, len(found.manifest.shards)
    assert count_requests(proxy) == {("GET", "object"): manifest + shards}
