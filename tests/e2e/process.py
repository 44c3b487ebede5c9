"""Real keepfit processes: started, signalled, and observed through their log and exit code."""

from __future__ import annotations

import atexit
import functools
import json
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
SMALL = ROOT / "tests/e2e/jobs/small.py"
MNIST = ROOT / "job/examples/mnist.py"
LIMIT = 120
"""Seconds within which a process has to end, or to write an expected line."""


@dataclass
class Ended:
    """The result of a process: its exit code, output and log events."""

    code: int
    out: str
    err: str
    events: list[dict] = field(default_factory=list)

    def named(self, event: str) -> list[dict]:
        return [e for e in self.events if e["event"] == event]

    def one(self, event: str) -> dict:
        entries = self.named(event)
        assert len(entries) == 1, f"expected one {event}, found {len(entries)} in:\n{self.err}"
        return entries[0]


SHARED_FORK_SERVER = "FORK_SERVER_OF_TESTS"
"""The environment variable that names the fork server of all test processes of a session."""


def share_fork_server() -> None:
    """Start a fork server for the test processes that this process starts."""
    os.environ[SHARED_FORK_SERVER] = fork_server().removeprefix("\0")


@functools.cache
def fork_server() -> str:
    """Return the address of the shared fork server, or of one that ends with this process."""
    if shared := os.environ.get(SHARED_FORK_SERVER):
        return f"\0{shared}"
    address = f"\0keepfit-tests-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        command = [sys.executable, "-m", "tests.e2e.forkserver", str(server.fileno())]
        started = subprocess.Popen(command, cwd=ROOT, pass_fds=[server.fileno()])
    atexit.register(started.kill)
    return address


class Forked:
    """A process from the fork server, with the methods of subprocess.Popen that tests use."""

    def __init__(self, args: list[str], cwd: Path, env: dict[str, str]):
        (out, out_end), (err, err_end) = os.pipe(), os.pipe()
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(fork_server())
        request = {"args": args, "env": env, "folder": str(cwd)}
        socket.send_fds(self._connection, [json.dumps(request).encode()], [out_end, err_end])
        os.close(out_end)
        os.close(err_end)
        self.stdout, self.stderr = os.fdopen(out, "rb"), os.fdopen(err, "rb")
        self._answers = self._connection.makefile("r")
        self.pid = int(self._answers.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the process to end. Return its exit code."""
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("keepfit", timeout or 0)
            self.returncode = os.waitstatus_to_exitcode(int(self._answers.readline()))
            self._connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def keepfit_run(
    folder: Path, *args: str | Path, launcher: Sequence[str] = (), **env: str
) -> Forked | subprocess.Popen[bytes]:
    """Start `keepfit run`, forked from a server (forkserver.py) or by a launcher command."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("KEEPFIT_")}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUNBUFFERED": "1"}
    environment |= {"AWS_EC2_METADATA_DISABLED": "true"} | env
    command = ["run", *map(str, args)]
    if not launcher:
        return Forked(command, folder, environment)
    return subprocess.Popen(
        [*launcher, Path(sys.executable).with_name("keepfit"), *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )


class Process:
    """A process whose output is read as it is written."""

    def __init__(self, process: Forked | subprocess.Popen[bytes]):
        self._lines: queue.Queue[tuple[str, str] | None] = queue.Queue()
        self._seen: dict[str, list[str]] = {"out": [], "err": []}
        self._process = process
        self._readers = [
            threading.Thread(target=self._read, args=(name, pipe))
            for name, pipe in (("out", self._process.stdout), ("err", self._process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name, pipe):
        for line in pipe:
            self._lines.put((name, line.decode()))
        self._lines.put(None)

    def until(self, condition: Callable[[str], bool]) -> str:
        """Wait for and return the first line of output that fulfils the condition."""
        while (item := self._lines.get(timeout=LIMIT)) is not None:
            name, line = item
            self._seen[name].append(line)
            if condition(line):
                return line
        raise AssertionError(f"ended before the expected line:\n{''.join(self._seen['err'])}")

    def until_event(self, event: str) -> dict:
        return json.loads(self.until(lambda line: f'"event": "{event}"' in line))

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, limit: float = LIMIT) -> Ended:
        code = self._process.wait(limit)
        for reader in self._readers:
            reader.join()
        while not self._lines.empty():
            if item := self._lines.get():
                self._seen[item[0]].append(item[1])
        err = "".join(self._seen["err"])
        lines = [line for line in self._seen["err"] if line.startswith("{")]
        return Ended(code, "".join(self._seen["out"]), err, [json.loads(x) for x in lines])

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for reader in self._readers:
            reader.join()


@contextmanager
def started(folder: Path, *args: str | Path, **options) -> Iterator[Process]:
    """Start a process, which is killed at the end of the block if it still runs."""
    process = Process(keepfit_run(folder, *args, **options))
    try:
        yield process
    finally:
        process.end()


def run(folder: Path, *args: str | Path, **options) -> Ended:
    """Run a process to its end."""
    with started(folder, *args, **options) as process:
        return process.wait()


def small(folder: Path, *args: str, save_every: str = "3 batches", **env: str) -> Ended:
    """Run the small training, with every operation deterministic.

    Its arguments say how it is interrupted, so they differ in each attempt.
    """
    flags = ("--deterministic", "--resume", "--save-every", save_every)
    return run(folder, *flags, SMALL, *args, **env)


def result(folder: Path) -> dict:
    """Return the result that the small training has written."""
    return json.loads((folder / "result.json").read_text())


def document(path: Path) -> dict:
    """Return the document in a HEAD or manifest file."""
    return json.loads(path.read_bytes())["document"]
