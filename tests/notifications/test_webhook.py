"""A POST to servers that work, refuse, redirect, hang, or answer without end."""

from __future__ import annotations

import base64
import time

import pytest

from keepfit.job.notifications.webhook import DeliveryFailed, Webhook, may_be_secret, origin
from tests.servers import misbehaving as bad
from tests.servers.misbehaving import OK, dripping, flooding
from tests.servers.processes import free_port
from tests.servers.webhook import webhook

PATIENCE = 20.0
"""Seconds for what takes some milliseconds, on a machine with other work."""


def failure(url, timeout=PATIENCE):
    """Return the failure of a POST to this URL."""
    with pytest.raises(DeliveryFailed) as caught:
        Webhook(url, timeout=timeout).post({"event": "failed"})
    return caught.value


def test_a_document_arrives():
    """As JSON, at the path and query of the URL, its user and password as basic authentication."""
    with webhook() as hook:
        url = hook.url.replace("://", "://me:pa%20ss@") + "/a/b?token=t"
        Webhook(url).post({"event": "finished", "text": "ü"})
        (path, headers), *more = hook.requests
    assert not more
    assert hook.documents == [{"event": "finished", "text": "ü"}]
    assert path == "/a/b?token=t"
    credentials = base64.b64decode(headers["Authorization"].removeprefix("Basic ")).decode()
    assert credentials == "me:pa ss"
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"] == "keepfit"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status):
    """Neither the document nor the password reaches the other server; no further try is made."""
    with webhook() as other, webhook([status], location=f"{other.url}/x") as hook:
        error = failure(hook.url.replace("://", "://me:secret@"))
    assert str(error) == f"{hook.url} answers {status}; redirects are not followed"
    assert not error.transient
    assert (len(hook.requests), other.requests) == (1, [])


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_statuses_that_accept(status):
    """Each success counts, whatever its body."""
    with webhook([status]) as hook:
        Webhook(hook.url).post({"event": "failed"})


@pytest.mark.parametrize(
    ("status", "transient"),
    [(400, False), (401, False), (404, False), (408, True), (429, True), (500, True), (503, True)],
)
def test_statuses_that_refuse(status, transient):
    """Another try may help after an error of the server's, or if it was asked too often."""
    with webhook([status]) as hook:
        error = failure(hook.url)
    assert (str(error), error.transient) == (f"{hook.url} answers {status}", transient)


def test_an_answer_without_end():
    """The status counts: a body is not read, so that it can't be too large or too slow."""
    with bad.serving(flooding(b"x" * 4096, OK + b"\r\n")) as server:
        Webhook(server.url).post({"event": "failed"})
    assert server.connections == 1


@pytest.mark.parametrize("talk", [bad.silent, dripping(b"X: y\r\n", OK)])
def test_a_server_that_hangs(talk):
    """The whole exchange is limited, also where the server sends something now and then."""
    with bad.serving(talk) as server:
        began = time.monotonic()
        error = failure(server.url, timeout=0.2)
        assert time.monotonic() - began < PATIENCE
    assert error.transient
    assert str(error).startswith(origin(server.url))


SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    "form", ["http://me:{s}@{at}/", "http://{at}/services/{s}", "http://{at}/?token={s}"]
)
def test_no_secret_in_a_failure(form):
    """Neither the user, nor the path, nor the query is named: each may be a secret."""
    at = f"127.0.0.1:{free_port()}"
    error = failure(form.format(s=SECRET, at=at))
    assert error.transient
    assert str(error) == f"http://{at} does not answer: Connection refused"


@pytest.mark.parametrize(
    ("url", "shown", "secret"),
    [
        ("https://hooks.example.com/services/T0/B0/X", "https://hooks.example.com", True),
        ("https://me:p/w@hooks.example.com:8443/?a=b", "https://hooks.example.com:8443", True),
        ("http://[::1]:80/x", "http://[::1]:80", True),
        ("https://example.com?token=x", "https://example.com", True),
        ("https://me@example.com", "https://example.com", True),
        ("https://example.com/", "https://example.com", False),
        ("http://localhost:9000", "http://localhost:9000", False),
    ],
)
def test_what_is_shown_of_a_url(url, shown, secret):
    """Its scheme, host and port; anything else may be a secret."""
    assert (origin(url), may_be_secret(url)) == (shown, secret)
