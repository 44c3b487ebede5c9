"""The page as `keepfit report --serve` shows it: HTTP on loopback, and nobody else's."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from keepfit.callbacks.journal.terms import Reason
from keepfit.callbacks.storage import open_store
from keepfit.callbacks.storage.base import Transient
from keepfit.job.reports.page.server import PAUSE, LiveReport, ReportServer
from tests.checkpoint.samples import snapshot, take_over
from tests.job.conftest import keepfit, refused
from tests.journal.factory import killed_and_resumed, write
from tests.reports.samples import attempt, report, sample


class Source:
    """A store's report, and how often and when it was read."""

    def __init__(self):
        self.report = sample()
        self.error: Exception | None = None
        self.reads = 0
        self.now = 0.0
        self.cost = 0.0

    def read(self):
        self.reads += 1
        self.now += self.cost
        if self.error:
            raise self.error
        return self.report

    def live(self):
        return LiveReport(self.read, self.report, clock=lambda: self.now)


@contextmanager
def served(live):
    """Serve a report from a thread, until the block ends."""
    with ReportServer(live, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def server(source):
    with served(source.live()) as server:
        yield server


def ask(server, path="/", method="GET", **headers):
    """Return status, headers and body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def test_it_listens_on_loopback_only(server):
    """No other machine reaches it; neither does another address of this one."""
    assert server.socket.getsockname()[0] == "127.0.0.1"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", server.server_port), timeout=5)


def test_the_page(server):
    """HTML that renews itself, and is kept by no cache and in no frame."""
    status, headers, body = ask(server)
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert b'data-poll="3"' in body
    status, headers, body = ask(server, method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 50_000


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "", "localhost.evil:80"]
)
def test_another_host_is_refused(server, host):
    """A name of a foreign page that leads to 127.0.0.1 (DNS rebinding) gets nothing."""
    for path in ("/", "/data.json"):
        status, _, body = ask(server, path, Host=host)
        assert (status, body) == (421, b"Misdirected Request\n")


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_its_own_hosts(server, name):
    """Both names by which a browser of this machine calls it."""
    assert ask(server, "/data.json", Host=f"{name}:{server.server_port}")[0] == 200


@pytest.mark.parametrize("path", ["/etc/passwd", "/../render.py", "/assets/page.js", "/?a"])
def test_there_are_two_paths(server, path):
    """No file is served."""
    assert ask(server, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed(server, method):
    """Only GET and HEAD are answered."""
    assert ask(server, method=method)[0] == 501


def test_data_are_sent_once(server, source):
    """An unchanged report costs a 304 without a body, and a changed one is sent."""
    status, headers, body = ask(server, "/data.json")
    assert status == 200
    assert json.loads(body)["title"] == "mnist"
    known = {"If-None-Match": headers["ETag"]}
    assert ask(server, "/data.json", **known)[::2] == (304, b"")
    source.report = report((attempt(1, started=0, first=0, last=500),))
    source.now += 3
    status, headers, body = ask(server, "/data.json", **known)
    assert status == 200
    assert "s3://training/runs" in json.loads(body)["sections"]["about"]
    assert headers["ETag"] != known["If-None-Match"]


def test_the_store_is_read_only_when_somebody_asks(source):
    """Not for each request, and the rarer, the longer it takes."""
    live = source.live()
    live.data()
    assert source.reads == 0
    source.now, source.cost = 3.0, 2.0
    live.data()
    assert source.reads == 1
    source.now += 2 * PAUSE - 0.1
    live.data()
    assert source.reads == 1
    source.now += 0.2
    live.data()
    assert source.reads == 2


def test_a_store_that_does_not_answer_is_shown(server, source, capsys):
    """Said in the log once; the page keeps its last state, and recovers."""
    source.error = Transient("no answer from bucket")
    for _ in range(2):
        source.now += 3
        status, _, body = ask(server, "/data.json")
        assert status == 503
        assert json.loads(body) == {"reason": "no answer from bucket"}
    assert capsys.readouterr().err.count("no answer from bucket") == 1
    assert ask(server)[0] == 200
    source.error = None
    source.now += 3
    assert ask(server, "/data.json")[0] == 200


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A store with a run of three attempts."""
    uri = f"file://{tmp_path}/runs"
    monkeypatch.setenv("KEEPFIT_STORE", uri)
    store = open_store(uri)
    for _ in range(3):
        taken = take_over(store, run="run")
    taken.commit(snapshot(7))
    write(store, *killed_and_resumed())
    return store


def test_ctrl_c_ends_the_server(stored):
    """The command as a user runs it: an address, the page, and exit code 130."""
    command = [sys.executable, "-m", "keepfit", "report", "run", "--serve"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ})
    assert process.stderr
    try:
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        assert found, line
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=10)
        connection.request("GET", "/")
        assert b"<title>run " in connection.getresponse().read()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr.read() == ""
        connection.close()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_a_port_that_is_taken(stored):
    """One line names it and the way out."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = refused("report", "run", "--serve", "--port", port, code=2)
    assert f"port {port} can't be used: Address already in use" in line
    assert "--port" in line


def test_to_writes_the_page(stored, tmp_path):
    """In place of the tables, and as a whole or not at all."""
    ended = keepfit("report", "run", "--to", tmp_path / "run.html")
    assert ended.stdout == ""
    assert "report_written" in ended.stderr or "run.html" in ended.stderr
    assert b"<title>run " in (tmp_path / "run.html").read_bytes()
    assert [path.name for path in tmp_path.glob("*.html*")] == ["run.html"]
    printed = keepfit("report", "run", "--json", "--to", tmp_path / "run.html").stdout
    assert json.loads(printed)["goodput"]["attempts"][0]["reason"] == Reason.KILLED


@pytest.mark.parametrize("name", ["missing/run.html", ".", "runs"])
def test_a_place_that_cannot_be_written(stored, tmp_path, monkeypatch, name):
    """One line, and no half of a file."""
    monkeypatch.chdir(tmp_path)
    line = refused("report", "run", "--to", name, code=2)
    assert "the page can't be written" in line
    assert not list(tmp_path.rglob("*.tmp"))


def test_serve_and_json_exclude_each_other(stored):
    """One prints a document and ends, the other one goes on."""
    assert "exclude each other" in refused("report", "run", "--serve", "--json", code=2)
