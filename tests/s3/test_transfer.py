"""Uploads of single files: the content that was opened, by threads that the process can leave."""

from __future__ import annotations

import os
import threading
import uuid

import pytest

from keepfit.callbacks.daemon_executor import DaemonExecutor
from keepfit.callbacks.storage.s3.client import make_client
from keepfit.callbacks.storage.s3.retries import RetryPolicy
from keepfit.callbacks.storage.s3.transfer import Transfer

LARGE = 20 << 20
"""Bytes of a file that is sent in parts."""


@pytest.mark.parametrize("size", [0, 100, LARGE])
def test_file_that_is_replaced_while_it_is_sent(bucket, tmp_path, size):
    """The object is the file that was opened, as a whole."""
    path, newer = tmp_path / "model", tmp_path / "newer"
    content = os.urandom(size)
    path.write_bytes(content)
    newer.write_bytes(b"x" * LARGE)

    def replace(**_):
        if newer.exists():
            newer.replace(path)

    client = make_client(RetryPolicy())
    client.meta.events.register("before-send.s3", replace)
    transfer = Transfer(lambda: client, RetryPolicy())
    url = f"{bucket}/{uuid.uuid4().hex}"
    transfer.upload(str(path), url)
    assert not newer.exists()
    transfer.download(url, str(tmp_path / "found"))
    assert (tmp_path / "found").read_bytes() == content


def test_each_try_sends_the_whole_file(bucket, tmp_path):
    """A try that failed has read some of it."""
    path = tmp_path / "model"
    path.write_bytes(content := os.urandom(1000))
    url, failures = f"{bucket}/{uuid.uuid4().hex}", ["first", "second"]

    def fail(request, **_):
        if failures:
            request.body.read(500)
            failures.pop()
            raise OSError("the connection broke")

    client = make_client(RetryPolicy())
    client.meta.events.register("before-send.s3", fail)
    Transfer(lambda: client, RetryPolicy()).upload(str(path), url)
    assert not failures
    Transfer.open().download(url, str(tmp_path / "found"))
    assert (tmp_path / "found").read_bytes() == content


def test_executor_runs_calls_on_daemon_threads():
    """It has as many threads as asked for at most, and returns results and errors."""
    executor, both = DaemonExecutor(2), threading.Barrier(2)

    def call(number):
        both.wait(10)
        return number, threading.current_thread()

    results = [future.result(10) for future in [executor.submit(call, n) for n in range(6)]]
    assert [number for number, _ in results] == list(range(6))
    threads = {thread for _, thread in results}
    assert len(threads) == 2
    assert all(thread.daemon for thread in threads)
    failing = executor.submit(int, "x")
    with pytest.raises(ValueError, match="invalid literal"):
        failing.result(10)
    executor.shutdown()
    assert not any(thread.is_alive() for thread in threads)


def test_executor_cancels_waiting_calls():
    """Calls that have not begun are cancelled if asked for."""
    executor, begun, end = DaemonExecutor(1), threading.Event(), threading.Event()

    def call():
        begun.set()
        assert end.wait(10)

    first, second = executor.submit(call), executor.submit(call)
    assert begun.wait(10)
    executor.shutdown(wait=False, cancel_futures=True)
    assert second.cancelled()
    end.set()
    assert first.result(10) is None
