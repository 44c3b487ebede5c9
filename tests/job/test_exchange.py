"""Answers of servers are limited in size and in total time, whatever the server does."""

from __future__ import annotations

import gzip
import os
import time
from contextlib import suppress
from urllib.request import Request

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.callbacks import events
from keepfit.callbacks.engine.preemption import PreemptionState
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.runner_settings import NoticeSettings
from keepfit.job.notices.custom import WatchedUrl
from keepfit.job.notices.exchange import MAX_BYTES, HttpClient
from keepfit.job.notices.imds import InstanceMetadata
from keepfit.job.notices.source import SourceUnavailable
from keepfit.job.notices.watcher import NoticeWatcher, watch_machine
from tests import imds
from tests.servers import misbehaving as bad
from tests.servers.misbehaving import CHUNKED, OK, dripping, flooding, sending

EXAMPLES = int(os.environ.get("KEEPFIT_EXAMPLES", "150"))
TIMEOUT = 0.3
PATIENCE = 20.0
"""Seconds for what takes some milliseconds, on a machine with other work."""

BOMB = gzip.compress(bytes(10**7))

SLOW, LARGE = ("too_slow", "within 0.3 s"), ("too_large", "more than 65536 bytes")

SERVERS = {
    "nothing": (bad.silent, "unreachable", "timed out"),
    "headers, a byte at a time": (dripping(b"x", OK), *SLOW),
    "a body, a byte at a time": (dripping(b"x", OK + b"\r\n"), *SLOW),
    "chunks, a byte at a time": (dripping(b"1\r\nx\r\n", CHUNKED), *SLOW),
    "100, slowly": (dripping(b"HTTP/1.1 100 Go\r\n\r\n"), *SLOW),
    "a long body that stops": (
        dripping(b"", OK + b"Content-Length: 9\r\n\r\nx"),
        "too_slow",
        "0.3 s",
    ),
    "a body without end": (flooding(b"x" * 9000, OK + b"\r\n"), *LARGE),
    "chunks without end": (flooding(b"1\r\nx\r\n" * 999, CHUNKED), *LARGE),
    "a chunk without end": (
        flooding(b"x" * 9000, CHUNKED + b"de0b6b3a7640000\r\n"),
        "too_large",
        "65536 bytes",
    ),
    "a negative chunk": (flooding(b"x" * 9000, CHUNKED + b"-1\r\n"), *LARGE),
    "100 without end": (flooding(b"HTTP/1.1 100 Go\r\n\r\n" * 99), *LARGE),
    "a header without end": (flooding(b"x" * 9000, OK), *LARGE),
    "headers without end": (flooding(b"X: y\r\n", OK), "unreachable", "100 headers"),
    "10^18 bytes": (
        sending(OK, b"Content-Length: 1" + b"0" * 18 + b"\r\n\r\n"),
        "too_large",
        "65536 bytes",
    ),
    "a bomb": (sending(OK, b"Content-Encoding: gzip\r\n\r\n", BOMB), "compressed", "compressed"),
    "half a body": (sending(OK, b"Content-Length: 9\r\n\r\nx"), "unreachable", "IncompleteRead"),
    "half a header": (sending(OK, b"Content-Le"), "unreachable", "within the headers"),
    "no HTTP": (sending(b"220 smtp ready\r\n"), "unreachable", "220"),
    "another address": (
        sending(b"HTTP/1.1 302 Found\r\nLocation: /notice\r\n\r\n"),
        "redirect",
        "not followed",
    ),
}


@pytest.mark.parametrize("case", SERVERS)
def test_a_server_that_breaks_the_rules(case):
    """One failure that names the address and the cause, in time, after a single request."""
    talk, kind, words = SERVERS[case]
    with bad.serving(talk) as server:
        secret = server.url.replace("//", "//user:hunter2@") + "?token=hunter3"
        began = time.monotonic()
        with pytest.raises(SourceUnavailable, match=words) as failure:
            WatchedUrl(secret, 30.0, timeout=TIMEOUT).fetch()
        assert time.monotonic() - began < PATIENCE
        assert failure.value.kind == kind
        assert server.url.replace("//", "//***@") in str(failure.value)
        assert "hunter" not in str(failure.value)
        assert server.connections == 1


@pytest.mark.parametrize("case", ["headers, a byte at a time", "a header without end"])
def test_a_metadata_service_that_breaks_the_rules(case):
    """The same limits hold for it, and are not mistaken for a hop limit."""
    talk, kind, _ = SERVERS[case]
    with bad.serving(talk) as server, pytest.raises(SourceUnavailable) as failure:
        InstanceMetadata(server.url, timeout=TIMEOUT).get(imds.SPOT)
    assert failure.value.kind == kind
    assert server.connections == 1


@pytest.mark.parametrize("token", [b"", b"a\r\nb", b"\xff", b"x" * 1025, b"<html> no token"])
def test_what_is_no_token(token):
    """A text that can't be sent in a header is refused, and not sent."""
    head = b"Content-Length: %d\r\n\r\n" % len(token)
    with (
        bad.serving(sending(OK, head, token)) as server,
        pytest.raises(SourceUnavailable, match="no token"),
    ):
        InstanceMetadata(server.url, timeout=PATIENCE).get(imds.SPOT)
    assert server.connections == 1


def test_the_largest_answer():
    """An answer of MAX_BYTES, with its headers, is read; one of a byte more is not."""
    head = OK + b"\r\n"
    body = b"x" * (MAX_BYTES - len(head))
    with bad.serving(sending(head, body)) as server:
        (message,) = WatchedUrl(server.url, 30.0, timeout=PATIENCE).fetch()
        assert message.text == body.decode()
        server.talk = sending(head, body, b"x")
        with pytest.raises(SourceUnavailable, match="more than 65536 bytes"):
            WatchedUrl(server.url, 30.0, timeout=PATIENCE).fetch()


def test_no_answer_needs_its_body():
    """404 is no notice, whatever follows it: the body is not read."""
    with bad.serving(flooding(b"x" * 9000, b"HTTP/1.1 404 No\r\n\r\n")) as server:
        assert WatchedUrl(server.url, 30.0, timeout=PATIENCE).fetch() == []


def test_a_line_for_each_kind():
    """Not for each poll; polls are rarer meanwhile, and go on."""
    with bad.serving(dripping(b"x", OK)) as server, capture_logs() as logs:
        source = WatchedUrl(server.url, 30.0, timeout=0.5)
        watcher = NoticeWatcher(source, PreemptionState(), every=1.0)
        for talk in (server.talk, flooding(b"x" * 9000, OK)) * 2:
            server.talk = talk
            watcher.poll()
        assert watcher._pause == 16.0
        server.talk = sending(b"HTTP/1.1 404 No\r\n\r\n")
        watcher.poll()
        assert watcher._pause == 1.0
    assert [line["event"] for line in logs] == [
        events.MACHINE_NOT_WATCHED,
        events.MACHINE_NOT_WATCHED,
        events.MACHINE_WATCHED,
    ]
    assert [line["url"] for line in logs] == [server.url] * 3
    assert all(line["fix"] for line in logs[:2])


def until(condition):
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.001)


@pytest.mark.parametrize("case", ["nothing", "headers, a byte at a time", "a body without end"])
@pytest.mark.parametrize("which", ["metadata", "watched"])
def test_another_source_is_not_delayed(which, case, tmp_path):
    """A notice arrives while the exchange with the other server is still under way."""
    preemption, machine, notice = PreemptionState(), imds.Machine(), tmp_path / "notice"
    machine.interrupt(100)
    notice.touch()
    with (
        bad.serving(SERVERS[case][0]) as server,
        imds.serving(machine) as service,
        capture_logs() as logs,
    ):
        watch, endpoint = (notice, server.url) if which == "metadata" else (server.url, service)
        variables = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": str(endpoint)}
        with watch_machine(preemption, NoticeSettings(watch=str(watch)), variables):
            until(lambda: preemption.notice)
            ended = [line for line in logs if line["event"] == events.MACHINE_NOT_WATCHED]
            expected = str(notice) if which == "metadata" else imds.SPOT
            assert preemption.notice.source.startswith(expected)
            until(lambda: server.connections)
    assert not ended or case == "a body without end"


def test_a_document_is_not_delayed_by_the_next():
    """A Spot notice is recorded before the service is asked for its other documents."""
    preemption, machine = PreemptionState(), imds.Machine()
    machine.recommend()
    machine.documents[imds.MAINTENANCE] = "{}" * MAX_BYTES
    with imds.serving(machine) as url, capture_logs() as logs:
        watcher = NoticeWatcher(InstanceMetadata(url, timeout=PATIENCE), preemption)
        watcher.poll()
        watcher.poll()
    assert preemption.save_requested
    assert [line["event"] for line in logs] == [
        events.MACHINE_WATCHED,
        events.NOTICE,
        events.MACHINE_NOT_WATCHED,
    ]


HEADER = st.sampled_from(
    [b"Content-Length", b"Transfer-Encoding", b"Date", b"Content-Encoding", b"Connection", b"\xff"]
)
VALUE = st.one_of(
    st.sampled_from([b"0", b"-1", b"1e9", b"9" * 5000, b"chunked", b"identity", b"close"]),
    st.sampled_from([b"1 Jan 99999999999 00:00:00 GMT", b"Mon, 1 Jan 1 00:00:00 +9999"]),
    st.binary(max_size=20),
)
ANSWERS = st.builds(
    lambda status, headers, body: b"".join(
        [b"HTTP/1.1 ", status, b"\r\n", *(b": ".join(h) + b"\r\n" for h in headers), b"\r\n", body]
    ),
    st.sampled_from([b"200 OK", b"200", b"404 No", b"302 Go", b"1e5", b"100 Go", b"-1", b""]),
    st.lists(st.tuples(HEADER, VALUE), max_size=4),
    st.one_of(
        st.binary(max_size=50), st.sampled_from([b"5\r\nhello\r\n0\r\n\r\n", b"ffffffff\r\n"])
    ),
)


@pytest.fixture(scope="module")
def server():
    with bad.serving(bad.silent) as serving:
        yield serving


@given(answer=st.one_of(ANSWERS, st.binary(max_size=100)))
@settings(max_examples=EXAMPLES, deadline=None)
def test_any_answer(server, answer):
    """An answer, or a failure that says why there is none; never another exception."""
    server.talk = sending(answer)
    client = HttpClient(server.url, timeout=PATIENCE)
    with suppress(SourceUnavailable):
        found = client.send(lambda: Request(server.url))
        assert len(found.text) <= MAX_BYTES
        assert found.date is None or found.date.tzinfo
