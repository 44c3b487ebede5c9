"""RemoteMonitor with a real server that works, is slow, fails, or does not exist."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import keras
import pytest

import keepfit
from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.format.keys import report_key
from keepfit.callbacks.engine.ownership import Ownership
from keepfit.callbacks.storage.base import StorageError
from keepfit.callbacks.storage.local import LocalStore
from tests.training.trainings import Training, attempt, preempted, whole


class Server:
    """A server that records reports.

    Args:
        answers: the status of each answer in turn; the last one is repeated.

    Attributes:
        answering: while it is clear, no request is answered.
    """

    def __init__(self, *answers):
        self.reports = []
        self.requests = []
        self.answering = threading.Event()
        self.answering.set()
        self._answers = list(answers or [200])
        self._arrived = threading.Condition()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                server.requests.append((self.path, dict(self.headers)))
                server.answering.wait()
                left = server._answers
                status = left.pop(0) if len(left) > 1 else left[0]
                if status == 200:
                    is_json = self.headers["Content-Type"] == "application/json"
                    text = body if is_json else parse_qs(body)["data"][0]
                    with server._arrived:
                        server.reports.append(json.loads(text))
                        server._arrived.notify_all()
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def await_reports(self, number):
        """Wait until this number of reports has arrived; they are sent in the background."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.reports) >= number, timeout=60)

    @property
    def epochs(self):
        return [report["epoch"] for report in self.reports]

    def close(self):
        self.answering.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def serve():
    """Return a function that starts a server with these answers."""
    started = []

    def start(*answers):
        started.append(Server(*answers))
        return started[-1]

    yield start
    for server in started:
        server.close()


KINDS = [keepfit.RemoteMonitor, keras.callbacks.RemoteMonitor]
"""Inside Resumable, both leave their reports to a thread."""


def reporting(server, kind=keepfit.RemoteMonitor, **more):
    """Return a training that reports to the server."""
    return Training(held=lambda: [kind(server.url, **more)])


@pytest.mark.parametrize("send_as_json", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_reports_as_keras_does(serve, tmp_path, kind, send_as_json):
    """The same reports are sent to the same path, with the same headers."""
    arguments = {"headers": {"X-Team": "blue"}, "send_as_json": send_as_json}
    ours, original = serve(), serve()
    attempt(reporting(ours, kind, **arguments), tmp_path / "ours")
    whole(reporting(original, keras.callbacks.RemoteMonitor, **arguments))
    assert ours.reports == original.reports
    assert ours.epochs == [0, 1, 2]
    (path, headers), *_ = ours.requests
    assert path == "/publish/epoch/end/"
    assert headers["X-Team"] == "blue"
    assert headers["Content-Type"] == original.requests[0][1]["Content-Type"]


@pytest.mark.parametrize("kind", KINDS)
def test_no_epoch_is_reported_twice(serve, tmp_path, kind):
    """An epoch that is trained again, because a kill lost it, is not reported again."""
    server = serve()
    training = reporting(server, kind)

    class Crash(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                server.await_reports(2)
                raise KeyboardInterrupt

    preempted(training, tmp_path / "store", "on_train_batch_end", 2)
    with pytest.raises(KeyboardInterrupt):
        attempt(training, tmp_path / "store", Crash())
    assert server.epochs == [0, 1]
    attempt(training, tmp_path / "store")
    assert server.epochs == [0, 1, 2]


def test_two_servers(serve, tmp_path):
    """Each server gets each epoch."""
    first, second = serve(), serve()
    attempt(
        Training(held=lambda: [keepfit.RemoteMonitor(server.url) for server in (first, second)]),
        tmp_path / "store",
    )
    assert first.epochs == second.epochs == [0, 1, 2]


def test_a_store_of_keepfit_0_1(serve, tmp_path):
    """An epoch is not reported again whose record has the secrets of the address in its key."""
    server = serve()
    root = server.url.replace("://", "://me:hunter2@")
    store = LocalStore(tmp_path / "store")
    for epoch in (0, 1):
        former = f"0-{root}/p?token=hunter2-{epoch}"
        store.put(report_key("run", former), [b"1"])
    monitors = lambda: [kind(root, "/p?token=hunter2") for kind in KINDS[:1]]  # noqa: E731
    done = attempt(Training(held=monitors), tmp_path / "store")
    assert server.epochs == [2]
    assert done.named(events.REPORT_FAILED) == []
    new = [entry.key for entry in store.list("run/reports/") if "hunter2" not in entry.key]
    assert new == [report_key("run", f"0-{server.url}/p-2")]


def test_two_monitors_of_one_place(serve, tmp_path):
    """Their tokens tell them apart at the server, and their order in the store."""
    server = serve()
    paths = ("/p?token=1", "/p?token=2")
    held = lambda: [keepfit.RemoteMonitor(server.url, path) for path in paths]  # noqa: E731
    attempt(Training(held=held), tmp_path / "store")
    assert sorted(path for path, _ in server.requests) == sorted(paths * 3)
    attempt(Training(held=held), tmp_path / "store")
    assert len(server.requests) == 6


def test_server_that_fails_for_a_while(serve, tmp_path):
    """Requests are retried, and no report is lost or out of order."""
    server = serve(503, 500, 200)
    done = attempt(reporting(server), tmp_path / "store")
    assert server.epochs == [0, 1, 2]
    assert done.named(events.REPORT_FAILED) == []


def test_server_that_refuses(serve, tmp_path):
    """A permanent error is not retried, and is logged."""
    server = serve(404)
    done = attempt(reporting(server), tmp_path / "store")
    assert len(server.requests) == 3
    assert len(done.named(events.REPORT_FAILED)) == 3
    assert all("404" in entry["reason"] for entry in done.named(events.REPORT_FAILED))


@pytest.mark.parametrize("kind", KINDS)
def test_server_that_hangs_costs_training_nothing(serve, tmp_path, monkeypatch, kind):
    """Training ends, waits a moment, and logs the reports that were not answered."""
    monkeypatch.setattr("keepfit.callbacks.files.report_sender.CLOSE_TIMEOUT", 0.5)
    server = serve()
    server.answering.clear()
    started = time.monotonic()
    done = attempt(reporting(server, kind), tmp_path / "store")
    assert time.monotonic() - started < 30
    assert len(done.epochs) == 3
    (entry,) = done.named(events.REPORT_FAILED)
    assert entry["server"] == server.url


def test_server_that_answers_late(serve, tmp_path, monkeypatch):
    """A request that is not answered in time is sent again, on another connection."""
    monkeypatch.setattr("keepfit.callbacks.files.report_sender.ANSWER_TIMEOUT", 0.3)
    server = serve()
    server.answering.clear()
    threading.Timer(1.0, server.answering.set).start()
    attempt(reporting(server), tmp_path / "store")
    assert sorted(set(server.epochs)) == [0, 1, 2]


def test_missing_server(tmp_path, monkeypatch):
    """It is treated like a server that hangs."""
    monkeypatch.setattr("keepfit.callbacks.files.report_sender.CLOSE_TIMEOUT", 0.5)
    training = Training(held=lambda: [keepfit.RemoteMonitor("http://127.0.0.1:1")])
    done = attempt(training, tmp_path / "store")
    assert len(done.epochs) == 3
    assert done.named(events.REPORT_FAILED)


@pytest.mark.parametrize("kind", KINDS)
def test_store_that_fails(serve, tmp_path, monkeypatch, kind):
    """If the store fails, nothing is reported, rather than twice, and that is logged."""

    def failing(self, name, former):
        raise StorageError("the store is gone")

    monkeypatch.setattr(Ownership, "record_once", failing)
    server = serve()
    done = attempt(reporting(server, kind), tmp_path / "store")
    assert server.epochs == []
    assert len(done.epochs) == 3
    reasons = [entry["reason"] for entry in done.named(events.REPORT_FAILED)]
    assert reasons == [f"epoch {n} was not reported: the store is gone" for n in (1, 2, 3)]


@pytest.mark.parametrize("kind", KINDS)
def test_store_that_hangs_costs_training_nothing(serve, tmp_path, monkeypatch, kind):
    """The thread alone waits for the store; the reports are given up after the final save."""
    monkeypatch.setattr("keepfit.callbacks.files.report_sender.CLOSE_TIMEOUT", 0.5)
    asked, answer = [], threading.Event()

    def hanging(self, name, former):
        asked.append(threading.current_thread().name)
        assert answer.wait(60)
        return True

    monkeypatch.setattr(Ownership, "record_once", hanging)
    server = serve()
    started = time.monotonic()
    done = attempt(reporting(server, kind), tmp_path / "store")
    assert time.monotonic() - started < 30
    answer.set()
    assert asked == ["keepfit-monitor"]
    assert len(done.epochs) == 3
    names = [entry["event"] for entry in done.logs]
    assert names.index(events.FINISHED) < names.index(events.REPORT_FAILED)


class Counting(keras.callbacks.RemoteMonitor):
    """A user's class with a hook of its own, which reports by Keras' hook."""

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, {"twice": 2 * logs["loss"]})


def test_derived_class_reports_by_its_own_hook(serve, tmp_path):
    """Its hook is called by the thread, too."""
    server = serve()
    attempt(reporting(server, Counting), tmp_path / "store")
    assert [sorted(report) for report in server.reports] == [["epoch", "twice"]] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_one_thread_which_ends_with_the_training(serve, tmp_path, kind):
    """Nothing is left of a training that has ended."""
    before = set(threading.enumerate())
    attempt(reporting(serve(), kind), tmp_path / "store")
    names = ("keepfit-monitor", "keepfit-post")
    left = [t for t in set(threading.enumerate()) - before if t.name in names]
    for thread in left:
        thread.join(10)
    assert not [thread for thread in left if thread.is_alive()]
