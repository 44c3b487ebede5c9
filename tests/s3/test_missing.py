"""S3 for a role that may not list everything: 403 for missing objects, and no list of uploads.

S3 answers 404 for an object that does not exist only to who may list the bucket:
docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
"""

import pytest

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.format.keys import head_key
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.storage.base import NotFound, StorageError
from tests.checkpoint.samples import RUN, head_of, take_over
from tests.s3.proxy import pass_through, s3_error, slow_down
from tests.s3.samples import assert_resumes, client_at, small, store_of, unfinished

DENIED = s3_error(403, "AccessDenied", "Access Denied")


def denied(action):
    """Return a fault with S3's message to a role of the bucket's own account."""
    return s3_error(
        403,
        "AccessDenied",
        f"User: arn:aws:sts::111122223333:assumed-role/train/i-1 is not authorized to perform: "
        f"{action} on resource: arn:aws:s3:::models because no identity-based policy allows the "
        f"{action} action",
    )


READS = {
    "load": lambda store, key: store.load(key),
    "version_of": lambda store, key: store.version_of(key),
    "read_into": lambda store, key: store.read_into(key, memoryview(bytearray(1))),
}


def hiding(fault):
    """Return a fault that replaces 404, as S3 does for who may not list the bucket."""

    def hide(exchange):
        answer = exchange.forward()
        if answer.status == 404:
            fault(exchange)
        else:
            exchange.send(answer.to_bytes())

    return hide


hidden = hiding(denied("s3:ListBucket"))


def is_listing(request):
    """Return True for a request of ListObjectsV2."""
    return "list-type=2" in request.query


def reads(fault, listing=pass_through):
    """Return a plan with a fault for each read of an object, and one for each listing."""

    def plan(_, request):
        if request.method in ("GET", "HEAD"):
            return listing if is_listing(request) else fault
        return None

    return plan


@pytest.fixture
def guarded(proxy, fresh):
    """Return a store behind the proxy, with one object `run/there`."""
    store = fresh()
    store.put("run/there", [b"x"])
    store.put("run/there-too", [b"x"])
    return store_of(client_at(proxy.url), store.uri)


@pytest.mark.parametrize("fault", [hidden, hiding(DENIED)], ids=["names an action", "does not"])
@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_missing_object_is_not_found(read, fault, proxy, guarded):
    """After a 403, a listing of one key tells whether the object is missing."""
    proxy.arm(reads(fault))
    for missing in ("run/ther", "run/there-", "run/none"):
        with pytest.raises(NotFound, match=f"{missing} does not exist"):
            read(guarded, missing)
    listings = [request.query for request in proxy.requests if is_listing(request)]
    assert all("max-keys=1" in query for query in listings)
    assert len(proxy.requests) == 2 * len(listings) == 6
    proxy.arm(reads(fault))
    read(guarded, "run/there")
    assert not any(map(is_listing, proxy.requests))


@pytest.mark.parametrize("action", ["s3:GetObject", "kms:Decrypt"])
def test_a_denial_of_reading(action, proxy, guarded):
    """Otherwise a role that may not read would take each run for a new one, and train in vain."""
    proxy.arm(reads(denied(action)))
    with pytest.raises(StorageError, match=f"{action} is not allowed") as refused:
        guarded.load("run/none")
    assert not isinstance(refused.value, NotFound)
    assert len(proxy.requests) == 1


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_refusal_stays_a_refusal(read, proxy, guarded):
    """An object that is listed may not be read; if the listing is refused, nothing is known."""
    for plan, key in (
        (reads(DENIED), "run/there"),
        (reads(DENIED, DENIED), "run/there"),
        (reads(DENIED, DENIED), "run/none"),
    ):
        proxy.arm(plan)
        with pytest.raises(StorageError, match=r"s3:GetObject is not allowed.*s3:ListBucket") as e:
            read(guarded, key)
        assert not isinstance(e.value, NotFound)
        assert len(proxy.requests) == 2


def test_a_listing_is_tried_again(proxy, guarded):
    """While S3 does not answer the listing, the outcome is unknown."""
    slow = iter([slow_down] * 3)
    proxy.arm(reads(hidden, lambda exchange: next(slow, pass_through)(exchange)))
    with pytest.raises(NotFound):
        guarded.load("run/none")


def test_a_run_of_such_a_role(proxy, fresh):
    """It starts, commits and resumes as with a role that may list everything."""
    store = fresh()
    proxy.arm(reads(hidden))
    guarded = store_of(client_at(proxy.url), store.uri)
    take_over(guarded).commit(small(1))
    assert any(map(is_listing, proxy.requests))
    assert_resumes(guarded, 1)


@pytest.mark.parametrize("begin", [False, True], ids=["sweep", "begin_sweep"])
def test_a_bucket_that_lists_no_uploads(begin, proxy, fresh, s3):
    """What killed attempts have left is deleted all the same, and one line names the permission."""
    store = fresh()
    guarded = store_of(client_at(proxy.url), store.uri)
    take_over(store, keep=1).commit(small(1))
    lost = f"{RUN}/shards/{'0' * 64}-0001.safetensors"
    store.put(lost, [b"x"])
    bucket, _, prefix = store.uri.removeprefix("s3://").partition("/")
    s3.create_multipart_upload(Bucket=bucket, Key=f"{prefix}/{lost}")
    attempt = take_over(guarded, keep=1)
    proxy.arm(lambda _, request: DENIED if "uploads" in request.query else None)
    with capture_logs() as logs:
        if begin:
            attempt.begin_sweep()
            assert attempt.flush(30)
            (line,) = logs
            assert line["event"] == events.PRUNE_FAILED
            reason = line["reason"]
        else:
            with pytest.raises(StorageError) as refused:
                attempt.sweep()
            reason = str(refused.value)
    assert "s3:ListBucketMultipartUploads is not allowed" in reason
    assert unfinished(s3, store), "left to the bucket's lifecycle"
    kept = {head_key(RUN), *head_of(store).checkpoints}
    keys = {entry.key for entry in store.list(f"{RUN}/")}
    assert lost not in keys
    assert kept <= keys
