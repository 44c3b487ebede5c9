"""An S3 or a server that never answers delays nothing; what it did not take is sent later."""

from __future__ import annotations

import shutil
import signal
import socket
import threading
import time
import uuid
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from keepfit.callbacks import events
from keepfit.callbacks.storage.s3.transfer import Transfer
from tests.adapters.test_files import arrays_in, assert_same_events, events_in
from tests.e2e.process import run, started
from tests.rotation import marks_of

SCRIPT = Path(__file__).with_name("sending.py")
FLAGS = ("--deterministic", "--resume", "--run", "sending")
ENDLESS = ("--epochs", "1000000")
ALONE = ("env",)
"""A launcher: the process is Python's own from start to end, not forked from a server."""


@contextmanager
def blackhole():
    """Yield the address of a server that accepts connections and never answers."""
    connections = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept():
            while True:
                try:
                    connections.append(server.accept())
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    for connection, _ in connections:
        connection.close()


@pytest.fixture
def hung():
    """Return the address of a server that never answers."""
    with blackhole() as address:
        yield address


@pytest.fixture
def url(bucket):
    """Return an unused address in S3."""
    return f"{bucket}/{uuid.uuid4().hex}"


@pytest.fixture
def disk(tmp_path):
    """Return the folder for temporary files."""
    path = tmp_path / "tmp"
    path.mkdir()
    return path


def replace_machine(disk):
    """Empty the folder for temporary files, as it is on a new machine."""
    shutil.rmtree(disk)
    disk.mkdir()


def seconds_between(first, second):
    """Return the seconds between two log lines."""
    times = [datetime.fromisoformat(line["timestamp"]) for line in (first, second)]
    return (times[1] - times[0]).total_seconds()


def downloaded(url, folder):
    """Download all objects below `url` into a new folder, and return it."""
    transfer = Transfer.open()
    for name in transfer.sizes(url):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        transfer.download(f"{url}/{name}", str(folder / name))
    return folder


def assert_same_files(found, expected):
    """Assert that two folders have the same models, the same rows, and the same events."""
    models = sorted(path.name for path in expected.glob("*.h5"))
    assert sorted(path.name for path in found.glob("*.h5")) == models
    assert len(models) == 5
    for name in models:
        assert arrays_in(found / name) == arrays_in(expected / name), name
    assert (found / "log.csv").read_bytes() == (expected / "log.csv").read_bytes()
    assert_same_events(events_in(found / "board"), events_in(expected / "board"))


@pytest.fixture(scope="module")
def expected(bucket, tmp_path_factory):
    """Return the files of an uninterrupted run."""
    folder, url = tmp_path_factory.mktemp("expected"), f"{bucket}/{uuid.uuid4().hex}"
    disk = folder / "tmp"
    disk.mkdir()
    ended = run(folder, *FLAGS, SCRIPT, url, TMPDIR=str(disk))
    assert ended.code == 0, ended.err
    assert not [event for event in ended.events if event["level"] in ("warning", "error")]
    assert not list(disk.rglob("*.h5"))
    return downloaded(url, folder / "found")


def test_notice_while_nothing_answers(tmp_path, url, hung, disk):
    """Epochs go on, the last save comes at once, and the process ends a few seconds after it."""
    env = {"AWS_ENDPOINT_URL_S3": hung, "TMPDIR": str(disk)}
    arguments = (*FLAGS, "--save-every", "1h", SCRIPT, url, "--server", hung, *ENDLESS)
    with started(tmp_path, *arguments, launcher=ALONE, **env) as attempt:
        attempt.until(lambda line: line == "epoch 5\n")
        attempt.send(signal.SIGTERM)
        ended = attempt.wait()
        over = time.time()
    assert ended.code == 75, ended.err
    notice, saved = ended.one(events.NOTICE), ended.named(events.SAVED)[-1]
    preempted = ended.one(events.PREEMPTED)
    assert preempted["saved"] is True
    assert seconds_between(notice, saved) < 2, "an answer would be waited for at least 20 s"
    assert seconds_between(saved, preempted) < 7
    assert over - datetime.fromisoformat(preempted["timestamp"]).timestamp() < 5
    assert seconds_between(ended.one(events.CLAIMED), notice) < 30
    unfinished = [
        name for entry in ended.named(events.UPLOADS_UNFINISHED) for name in entry["files"]
    ]
    assert f"{url}/log.csv" in unfinished
    assert f"{url}/best.weights.h5" in unfinished
    assert len(ended.named(events.REPORT_FAILED)) == 2


@pytest.mark.parametrize(
    ("die", "new_machine"),
    [
        pytest.param(die, new, marks=marks_of(new + (die == 15), days=2))
        for die in (11, 15)
        for new in (False, True)
    ],
)
def test_pending_uploads_arrive_after_a_kill(tmp_path, url, hung, disk, expected, die, new_machine):
    """The final objects are those of an uninterrupted run."""
    killed = run(
        tmp_path,
        *(*FLAGS, "--save-every", "1 batches"),
        *(SCRIPT, url, "--die", str(die)),
        TMPDIR=str(disk),
        AWS_ENDPOINT_URL_S3=hung,
    )
    assert killed.code == -signal.SIGKILL, killed.err
    assert killed.named(events.SAVED)
    assert Transfer.open().sizes(url) == {}
    if new_machine:
        replace_machine(disk)
    again = run(tmp_path, *FLAGS, SCRIPT, url, TMPDIR=str(disk))
    assert again.code == 0, again.err
    assert again.one(events.RESUMED)["step"] > 5
    assert_same_files(downloaded(url, tmp_path / "found"), expected)


@pytest.mark.parametrize("new_machine", [False, True], ids=["same machine", "new machine"])
def test_pending_uploads_of_a_finished_fit_arrive(tmp_path, url, hung, disk, expected, new_machine):
    """The process was killed after the final save, while it waited for S3."""
    env = {"TMPDIR": str(disk)}
    with started(tmp_path, *FLAGS, SCRIPT, url, **env, AWS_ENDPOINT_URL_S3=hung) as attempt:
        attempt.until_event(events.FINISHED)
        attempt.send(signal.SIGKILL)
        assert attempt.wait().code == -signal.SIGKILL
    assert Transfer.open().sizes(url) == {}
    if new_machine:
        replace_machine(disk)
    again = run(tmp_path, *FLAGS, SCRIPT, url, **env)
    assert again.code == 0, again.err
    assert again.named(events.ALREADY_FINISHED)
    assert_same_files(downloaded(url, tmp_path / "found"), expected)
    assert not list(disk.rglob("*.h5"))


@pytest.mark.parametrize("plain", [False, True], ids=["Resumable", "plain"])
def test_error_of_the_script_ends_the_process(tmp_path, url, hung, disk, plain):
    """No thread that waits for an answer keeps it from ending."""
    env = {"AWS_ENDPOINT_URL_S3": hung, "TMPDIR": str(disk)}
    more = ("--plain",) if plain else ("--server", hung)
    arguments = (*FLAGS, SCRIPT, url, "--fail", *more)
    with started(tmp_path, *arguments, launcher=ALONE, **env) as attempt:
        attempt.until(lambda line: line == "epoch 1\n")
        failed = time.monotonic()
        ended = attempt.wait()
    assert ended.code == 1, ended.err
    assert "an error of the script" in ended.err
    assert time.monotonic() - failed < 10
