"""HEAD in S3 that is removed or damaged in mid-run, and runs that are moved aside meanwhile."""

from datetime import UTC, datetime

import pytest

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.commit.attempt import Superseded
from keepfit.callbacks.checkpoint.commit.claim import claim_run, move_aside
from keepfit.callbacks.checkpoint.format.keys import head_key
from keepfit.callbacks.checkpoint.retention import KeepNewest
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.storage.base import Transient
from tests.checkpoint.samples import RUN, VERSIONS, head_of, take_over
from tests.s3 import proxy as faults
from tests.s3.proxy import always
from tests.s3.samples import assert_resumes, client_at, small, store_of
from tests.s3.test_faults import SHORT_RETRIES


def harm_head(store, content):
    """Replace the content of HEAD; remove it if None."""
    store.delete(head_key(RUN))
    if content is not None:
        store.put(head_key(RUN), [content])


@pytest.mark.parametrize("content", [None, b"{}"], ids=["removed", "damaged"])
@pytest.mark.parametrize("action", ["check", "commit"])
def test_head_that_is_harmed_in_mid_run(fresh, action, content):
    """It is written anew, and the attempt goes on."""
    store = fresh()
    attempt = take_over(store)
    attempt.commit(small(1))
    harm_head(store, content)
    with capture_logs() as logs:
        attempt.check() if action == "check" else attempt.commit(small(2))
    assert [log["event"] for log in logs] == [events.HEAD_REPAIRED]
    assert head_of(store).writer == attempt.head.writer
    attempt.commit(small(3))
    assert_resumes(store, 3)


def test_head_that_is_harmed_while_a_newer_attempt_saves(fresh):
    """The older attempt stops, the newer one goes on."""
    store = fresh()
    older = take_over(store)
    older.commit(small(1))
    newer = take_over(store)
    newer.commit(small(2))
    harm_head(store, None)
    with pytest.raises(Superseded, match="attempt 2 has written to the run"):
        older.commit(small(3))
    newer.commit(small(4))
    assert_resumes(store, 4)


def test_head_that_can_not_be_written_anew(fresh, proxy):
    """Without an answer of S3 nobody knows who owns the run: the error is a transient one."""
    store = fresh()
    attempt = take_over(store_of(client_at(proxy.url, SHORT_RETRIES), store.uri, SHORT_RETRIES))
    attempt.commit(small(1))
    harm_head(store, None)
    proxy.arm(always(faults.slow_down))
    with pytest.raises(Transient):
        attempt.check()
    proxy.arm()
    attempt.commit(small(2))
    assert_resumes(store, 2)


def test_run_that_is_moved_aside_is_not_repaired(fresh):
    """At no moment of the move does the attempt that is still alive write HEAD anew."""
    store = fresh()
    older = take_over(store)
    for step in (1, 2):
        older.commit(small(step))
    delete, reasons = store.delete, []

    def check():
        with pytest.raises(Superseded) as caught:
            older.check()
        reasons.append(str(caught.value))

    def delete_and_check(key):
        check()
        delete(key)
        check()

    store.delete = delete_and_check
    aside = move_aside(store, RUN, datetime.now(UTC))
    assert set(reasons) == {"attempt 2 owns the run now"}, "HEAD is there at every moment"
    store.delete = delete
    newer = claim_run(store, RUN, retention=KeepNewest(2), versions=VERSIONS, after=aside.attempt)
    assert newer.number == aside.attempt + 1
    newer.commit(small(1))
    with pytest.raises(Superseded):
        older.commit(small(3))
    assert_resumes(store, 1)


def test_own_uploads_in_flight_are_left_alone(fresh, s3):
    """A sweep aborts the multipart uploads of older attempts, and none of its own."""
    store = fresh()
    take_over(store)
    attempt = take_over(store)
    for number in (1, 2, 3):
        key = f"{RUN}/shards/{'0' * 64}-{number:04d}.safetensors"
        store._request("create_multipart_upload", key)
    attempt.sweep()
    bucket, _, prefix = store.uri.removeprefix("s3://").partition("/")
    left = s3.list_multipart_uploads(Bucket=bucket, Prefix=f"{prefix}/")["Uploads"]
    assert sorted(upload["Key"][-16:-12] for upload in left) == ["0002", "0003"]
