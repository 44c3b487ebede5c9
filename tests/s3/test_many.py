"""A run that has had thousands of checkpoints: the newest is found at once."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from callbacks.checkpoint.inspection import leftovers, summary
from callbacks.checkpoint.manifest import head_key, manifest_key
from callbacks.checkpoint.reader import read_head
from tests.checkpoint.samples import RUN, take_over
from tests.s3.samples import small, store_at, store_of

PAGE = 1000
"""Keys in one answer to a listing."""


def litter(store, count):
    """A run of two attempts, and so many manifests of the first that were never in force."""
    first = take_over(store)
    manifest = first.commit(small(1))
    content = manifest.to_bytes()

    def put(number):
        store.put(manifest_key(RUN, number, 1, number), [content])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(10, 10 + count)))
    second = take_over(store)
    second.resume_from(second.head.checkpoints[0], manifest)
    second.commit(small(2))
    return second


@pytest.fixture
def crowded(bucket, direct, proxy):
    """Gives a store with so many manifests, seen through the proxy, which counts."""

    def make(count):
        uri = f"{bucket}/{uuid.uuid4().hex}"
        litter(store_of(direct, uri), count)
        return store_at(proxy.url, uri)

    return make


def asked(proxy, action):
    """The methods of the requests that it makes."""
    proxy.arm()
    action()
    return [request.method for request in proxy.requests]


def look_at(crowded, proxy, count):
    store = crowded(count)
    assert asked(proxy, lambda: read_head(store, RUN)) == ["GET"]
    assert proxy.requests[0].path.endswith(head_key(RUN))
    assert len(asked(proxy, lambda: summary(store, RUN))) <= 4
    found = []
    requests = asked(proxy, lambda: found.extend(leftovers(store, RUN)))
    # The two checkpoints in force, their shards, HEAD, and what was left, a page at a time.
    assert len(requests) <= 3 + 1 + (count + 7) // PAGE + 1
    assert len(found) == count
    return len(requests)


def test_two_thousand_manifests(crowded, proxy):
    """HEAD is one request; a summary needs a few; what is left over is listed page by page."""
    one, two = look_at(crowded, proxy, 1000), look_at(crowded, proxy, 2000)
    assert two - one <= 1 + 1


@pytest.mark.soak
def test_ten_thousand_manifests(crowded, proxy):
    """The same, as issue and habit would have it: at ten thousand."""
    assert look_at(crowded, proxy, 10_000) <= 3 + 1 + 11 + 1
