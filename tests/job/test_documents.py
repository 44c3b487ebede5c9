"""Texts of servers are never more than a notice, or a line that says why they are none."""

from __future__ import annotations

import json
import math
import os
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.callbacks import events
from keepfit.callbacks.engine.preemption import PreemptionState
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.job.notices import documents
from keepfit.job.notices.custom import WatchedFile, parse_notice
from keepfit.job.notices.documents import MAX_NOTICE_SECONDS, SPOT_NOTICE_SECONDS
from keepfit.job.notices.source import SourceMessage, SourceUnavailable, parse_http_date
from keepfit.job.notices.watcher import NoticeWatcher

EXAMPLES = int(os.environ.get("KEEPFIT_EXAMPLES", "150"))
"""Generated texts for each test; many more were tried by hand."""

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DEEP = "[" * 65536
ODD_TIMES = [
    "1000000000-01-01T00:00:00Z",
    "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00+23:59",
    "2028-11-23T12:00:00Z",
    "2026-11-23T25:00:00Z",
    "\ud800",
    "",
    "x" * 60000,
    math.nan,
    math.inf,
    10**400,
    [[]],
    {},
    None,
    True,
]


def nested(depth):
    return "[" * depth + "]" * depth


@pytest.mark.parametrize("time", ODD_TIMES, ids=range(len(ODD_TIMES)))
def test_a_time_out_of_range(time):
    """The time is ignored, and the notice's line says so; a past time means now."""
    warned = parse_notice("/notice", json.dumps({"time": time}), NOW, grace=30.0)
    assert warned.terminates
    if isinstance(time, str) and time.startswith("0001"):
        assert (warned.seconds, warned.time_known) == (0.0, True)
    else:
        assert (warned.seconds, warned.time_known) == (30.0, False)
        assert "its time is ignored" in warned.source
    assert len(warned.source) < 500


@pytest.mark.parametrize("text", [DEEP, nested(500), f'{{"time": {nested(900)}}}', "9" * 65536])
@pytest.mark.parametrize("path", documents.WATCHED_PATHS)
def test_documents_that_are_nested_deeply(path, text):
    """They are errors like others, whatever Python's limits are, and contain no warning."""
    try:
        warned = documents.parse_document(path, text, NOW)
    except (ValueError, KeyError, TypeError):
        return
    assert warned is None or path == documents.REBALANCE


def test_an_odd_document_is_one_short_line():
    """A long document, with control characters, is logged once, as its readable start."""
    text = "\x1b[2J\n" + "x" * 60000

    class Source:
        def describe(self):
            return {}

        def fetch(self):
            return [SourceMessage(documents.SPOT, text)]

        def parse(self, message, now):
            return documents.parse_document(message.path, message.text, now)

    with capture_logs() as logs:
        watcher = NoticeWatcher(Source(), PreemptionState())
        watcher.poll()
        watcher.poll()
    (line,) = (line for line in logs if line["event"] == events.NOTICE_UNREADABLE)
    assert line["text"].startswith(r"\x1b[2J\nxxx")
    assert len(line["text"]) < 250


def test_an_unexpected_error_of_a_poll():
    """It is logged once, and the source is polled again, more rarely."""
    polls = []

    class Source:
        def describe(self):
            return {"file": "/notice"}

        def fetch(self):
            polls.append(1)
            raise ZeroDivisionError

        def parse(self, message, now):
            raise AssertionError

    watcher = NoticeWatcher(Source(), PreemptionState(), every=0.001)
    with capture_logs() as logs:
        watcher.start()
        while len(polls) < 3:
            assert watcher._thread.is_alive()
        watcher.stop()
        watcher._thread.join()
    (line,) = logs
    assert (line["event"], line["file"]) == (events.MACHINE_NOT_WATCHED, "/notice")
    assert "ZeroDivisionError" in line["reason"]


def test_a_pipe_is_no_file(tmp_path):
    """It is refused at once: to open it would wait for a writer."""
    pipe = tmp_path / "notice"
    os.mkfifo(pipe)
    with pytest.raises(SourceUnavailable, match="not a file"):
        WatchedFile(pipe, 30.0).fetch()


def test_a_large_file(tmp_path):
    """Its existence is a notice; 64 KiB of it are read."""
    path = tmp_path / "notice"
    path.write_bytes(bytes(100_000))
    (message,) = WatchedFile(path, 30.0).fetch()
    assert len(message.text) == 65536


ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
KEYS = st.sampled_from(["action", "time", "State", "NotBefore", "Code"])
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["terminate", "hibernate", "save", "active", "2026-11-23T12:01:00Z"]),
    st.datetimes().map(lambda at: at.isoformat()),
    st.datetimes(timezones=ZONES).map(lambda at: at.isoformat()),
    st.datetimes().map(lambda at: at.strftime("%d %b %Y %H:%M:%S GMT")),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)
BODIES = st.one_of(
    st.dictionaries(KEYS, TEXTS).map(json.dumps),
    st.lists(st.dictionaries(KEYS, TEXTS), max_size=2).map(json.dumps),
    VALUES.map(json.dumps),
    st.text(),
    st.binary().map(lambda body: body.decode(errors="replace")),
)
CLOCKS = st.one_of(
    st.just(NOW),
    st.datetimes(timezones=ZONES),
    st.datetimes(timezones=st.just(UTC)),
)


@given(body=BODIES, now=CLOCKS)
@settings(max_examples=EXAMPLES, deadline=None)
def test_any_notice(body, now):
    """It is a warning with a time that waits can take, and a short name."""
    warned = parse_notice("/notice", body, now, grace=30.0)
    assert warned.seconds is None or 0 <= warned.seconds <= MAX_NOTICE_SECONDS
    assert len(warned.source) < 500


@given(path=st.sampled_from(documents.WATCHED_PATHS), body=BODIES, now=CLOCKS)
@settings(max_examples=EXAMPLES, deadline=None)
def test_any_document(path, body, now):
    """It is a warning with a finite time, none, or an error that the watcher logs."""
    try:
        warned = documents.parse_document(path, body, now)
    except (ValueError, KeyError, TypeError):
        return
    if warned:
        assert warned.seconds is None or 0 <= warned.seconds < math.inf
        assert not warned.terminates or (warned.seconds or 0) <= SPOT_NOTICE_SECONDS
        assert len(warned.source) < 500


DATES = st.one_of(
    st.text(),
    st.builds(
        lambda day, year, zone: f"Mon, {day} Nov {year} 08:49:37 {zone}",
        st.integers(),
        st.integers() | st.just("9" * 5000),
        st.sampled_from(["GMT", "-0000"]) | st.integers().map(lambda n: f"{n:+}"),
    ),
)


@given(header=DATES)
@settings(max_examples=EXAMPLES, deadline=None)
def test_any_date(header):
    """A date is a time that can be compared with others, or None."""
    at = parse_http_date(header)
    assert at is None or isinstance(at - NOW, timedelta)
