"""Secrets of URLs never survive in a text, and other texts stay as they are."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.masking import (
    HIDDEN,
    has_secrets,
    mask_known,
    mask_known_of,
    mask_url,
    mask_urls,
    without_secrets,
    without_userinfo,
)
from keepfit.job import log_output

SECRET = "hunter2hunter2"

IN_TEXT = [
    f"http://u:{SECRET}@h:1/x",
    f"http://{SECRET}@h",
    f"http://u@corp:{SECRET}@h/x@y",
    f"http://u:a/{SECRET}@h/x",
    f"http://u:a?{SECRET}@h/x",
    f"http://u:a#{SECRET}@h/x",
    f"http://[::1]:80/p?token={SECRET}#part",
    f"http://h/p#access_token={SECRET}",
    f"http://h#/p?token={SECRET}",
    f"http://proxy/http://u:{SECRET}@h/",
    f"at 'http://u:a'{SECRET}@h/x', not answered",
    f"at 'http://h/?a='{SECRET}', not answered",
    f'"endpoint URL: "http://u:{SECRET} x@h/"',
    rf"{{\"url\": \"http://h/?k={SECRET}\", \"n\": 1}}",
    f"HTTPConnectionPool(host='h', port=1): Max retries exceeded with url: /p?k={SECRET} (Caused)",
]


@pytest.mark.parametrize("text", IN_TEXT)
def test_a_secret_in_a_text(text):
    """It is masked, also where its characters are not encoded; the place can still be read."""
    masked = mask_urls(text)
    assert SECRET not in masked
    assert HIDDEN in masked
    assert mask_urls(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        *("", "me@example.com", "a://", "see http://h:8080/x#y, s3://bucket/a@b/c and file:///x"),
        *("http://[::1]:80/@scope/x", '{"store":"s3://bucket","user":"me@example.com"}'),
    ],
)
def test_a_text_without_secrets(text):
    """It stays as it is."""
    assert mask_urls(text) == text


PARTS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Z", "C"], exclude_characters='/?#"<>@:\\'),
    min_size=1,
)
QUERIES = st.text(
    st.characters(codec="utf-8", exclude_categories=["Z", "C"], exclude_characters='"<>'),
)


@given(
    before=st.text().filter(lambda text: not text or not text[-1].isascii() or text[-1] in " ('"),
    user=PARTS,
    query=QUERIES,
    after=st.text(),
)
def test_any_url_in_any_text(before, user, query, after):
    """Neither the userinfo nor the query of a URL is left, and a second time changes nothing.

    In single quotes, a URL ends at the next one, so it can't contain any.
    """
    assume(not before.endswith("'") or "'" not in user + query)
    url = f"http://{user}:{SECRET}u@host.example:81/path?{query}{SECRET}q"
    masked = mask_urls(f"{before}{url} {after.replace('://', '')}")
    assert SECRET not in masked
    assert mask_urls(masked) == masked


@given(st.text().filter(lambda text: "://" not in text and "url: /" not in text.lower()))
def test_any_text_without_a_url(text):
    """It stays as it is."""
    assert mask_urls(text) == text == mask_url(text)


def test_parts_of_a_url():
    """The name of a place has no secret; a request has the userinfo apart."""
    url = f"https://u:{SECRET}@h:1/p?k={SECRET}"
    assert mask_url(url) == "https://***@h:1/p?***"
    assert without_secrets(url) == "https://h:1/p"
    assert without_secrets(f"u:{SECRET}@h:1/p") == "h:1/p"
    assert without_userinfo(url) == (f"https://h:1/p?k={SECRET}", f"u:{SECRET}")
    assert has_secrets(url)
    assert not has_secrets("file:///runs/a@b#c=d")


def test_known_secrets():
    """The secrets of a known URL are masked in a text that has only parts of it."""
    url = f"http://me:a%40{SECRET}@h/?token={SECRET}2&wait=true"
    for text in (f"no port: 'a@{SECRET}@h'", f"no host: me:a%40{SECRET}", f"{SECRET}2 is wrong"):
        assert SECRET not in mask_known(text, [url])
    assert mask_known("it is true", [url]) == "it is true"
    environment = {"HTTPS_PROXY": f"me:{SECRET}@proxy:3128", "HOME": "me:home@x"}
    assert mask_known_of(environment, f"bad port '{SECRET}@'") == "bad port '***@'"
    assert mask_known_of(environment, "me:home@x") == "me:home@x"
    several = {"KEEPFIT_NOTIFY": f"https://a.example/x https://me:{SECRET}@b.example"}
    assert mask_known_of(several, f"bad port '{SECRET}'") == "bad port '***'"


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("command", ["run", "ls"])
def test_no_event_has_a_secret(command, terminal, monkeypatch):
    """Whatever is logged: texts, lists, keys, objects, and the traceback of an error."""
    monkeypatch.setenv("HTTPS_PROXY", f"me:{SECRET}@proxy:3128")
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    log_output.configure(command, stream)
    url = f"https://u:{SECRET}@h/?k={SECRET}"
    try:
        raise OSError(f"{url} is down")
    except OSError as error:
        log = get_logger()
        log.error("failed", reason=error, at=[url, (url, {url: url})], exc_info=True, n=1, x=None)
        log.error(f"proxy {SECRET}", fix="none")
    written = stream.getvalue()
    assert SECRET not in written
    assert "https://***@h/?***" in written
    assert "Traceback" in written
    if command == "run" and not terminal:
        first, second = map(json.loads, written.splitlines())
        assert (first["event"], first["n"], first["x"]) == ("failed", 1, None)
        assert second["event"] == "proxy ***"
