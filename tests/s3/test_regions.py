"""A bucket in another region than the machine, behind a proxy that answers as S3 does there."""

from __future__ import annotations

import threading

import pytest

from keepfit.callbacks.storage.base import NotFound
from keepfit.callbacks.storage.s3 import multipart
from tests.s3.proxy import s3_error
from tests.s3.samples import client_at, environment, store_at, store_of

HERE, THERE = "us-east-1", "eu-west-3"
MOVED = "The bucket you are attempting to access must be addressed using the specified endpoint."
ANSWERS = {
    "permanent": s3_error(301, "PermanentRedirect", MOVED, x_amz_bucket_region=THERE),
    "temporary": s3_error(307, "TemporaryRedirect", MOVED, x_amz_bucket_region=THERE),
    "malformed": s3_error(
        400,
        "AuthorizationHeaderMalformed",
        f"The authorization header is malformed; the region '{HERE}' is wrong; expecting '{THERE}'",
        inside=f"<Region>{THERE}</Region>",
        x_amz_bucket_region=THERE,
    ),
}


def region_of(request):
    """Return the region for which the request is signed."""
    return dict(request.headers)["Authorization"].split("/")[2]


def in_region(answer):
    """Return a plan for a bucket in the other region: a request for this one gets the answer."""
    return lambda _, request: answer if region_of(request) == HERE else None


def redirected(proxy):
    return [request.method for request in proxy.requests if region_of(request) == HERE]


@pytest.fixture(autouse=True)
def here():
    with environment(AWS_REGION=HERE, AWS_DEFAULT_REGION=None):
        yield


@pytest.mark.parametrize("answer", ANSWERS)
def test_all_operations(answer, proxy, fresh, monkeypatch):
    """The first answer names the region; every later request of the client goes there at once."""
    monkeypatch.setattr(multipart, "MAX_SINGLE_PUT", 1 << 20)
    proxy.arm(in_region(ANSWERS[answer]))
    store = store_at(proxy.url, fresh().uri)
    with pytest.raises(NotFound):
        store.load("run/none")
    large = b"x" * (3 << 20)
    store.put("run/large", [large])
    version = store.swap("run/HEAD.json", b"1", expected=None)
    assert store.version_of("run/HEAD.json") == version
    into = bytearray(len(large))
    store.read_into("run/large", memoryview(into))
    assert into == large
    assert sorted(entry.key for entry in store.list("run/")) == ["run/HEAD.json", "run/large"]
    store.delete("run/large")
    assert redirected(proxy) == ["GET"]


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("method", ["HEAD", "PUT"])
def test_any_request_may_be_the_first(answer, method, proxy, fresh):
    """An answer to HEAD has no body, only the header; a body is sent to the region completely."""
    uri = fresh().uri
    store = store_at(proxy.url, uri)
    store.put("run/object", [b"x"])
    proxy.arm(in_region(ANSWERS[answer]))
    store = store_at(proxy.url, uri)
    if method == "HEAD":
        assert store.version_of("run/object")
    else:
        store.put("run/other", [b"a" * 300_000, b"b"])
        assert store.load("run/other")[0] == b"a" * 300_000 + b"b"
    assert redirected(proxy) == [method]


def test_in_the_bucket_s_own_region(proxy, fresh):
    """There is no request in addition."""
    proxy.arm(in_region(ANSWERS["permanent"]))
    with environment(AWS_REGION=THERE):
        store = store_at(proxy.url, fresh().uri)
    store.put("run/object", [b"x"])
    assert [region_of(request) for request in proxy.requests] == [THERE]


def test_threads_that_share_a_client(proxy, fresh):
    """Each of the first requests at once may be redirected, and none fails."""
    store = store_of(client_at(proxy.url), fresh().uri)
    proxy.arm(in_region(ANSWERS["permanent"]))
    threads = [threading.Thread(target=store.put, args=(f"run/{n}", [b"x" * n])) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([*store.list("run/")]) == 8
    assert len(redirected(proxy)) <= 8
