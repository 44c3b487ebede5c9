"""The S3 server that all methods use: the fastest one available on this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError

MODULE = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
ROOT = Path(__file__).parents[2]
REQUIRED_BYTES = 12 << 30
"""Bytes that the measurements may store on the server at once."""
START_TIMEOUT = 120.0
"""Seconds in which the server has to start."""


@dataclass(frozen=True)
class Server:
    """An S3 server with an empty bucket.

    Attributes:
        name: shown with the results.
        url: S3 URL of the bucket, with a prefix if there is one.
        pid: process id, if the server runs on this machine.
    """

    name: str
    url: str
    pid: int | None = None

    def clear(self) -> None:
        """Delete all objects below the URL."""
        bucket, _, prefix = self.url.removeprefix("s3://").partition("/")
        boto3.resource("s3").Bucket(bucket).objects.filter(Prefix=prefix).delete()


@contextmanager
def serving(bucket: str | None) -> Iterator[Server]:
    """Yield the server that the environment names if `bucket` is given, else start one.

    Args:
        bucket: s3://BUCKET[/PREFIX], at AWS_ENDPOINT_URL_S3; the objects written are deleted.
    """
    if bucket:
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3", "S3")
        yield Server(f"S3 at {endpoint}", f"{bucket}/bench-{os.getpid()}")
        return
    program = _versitygw()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    credentials = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "benchmark"}
    address = {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}", "AWS_REGION": "us-east-1"}
    os.environ.update({**credentials, **address, "AWS_DEFAULT_REGION": "us-east-1"})
    with tempfile.TemporaryDirectory(dir=_memory_folder()) as folder:
        if program:
            name = f"versitygw {MODULE.rpartition('@')[2]}"
            command = [program, "--port", f"127.0.0.1:{port}", "--quiet", "posix", folder]
            env = {"ROOT_ACCESS_KEY": "bench", "ROOT_SECRET_KEY": "benchmark"}
        else:
            name = "LocalStack, slower than S3 from a real instance"
            command, env = [str(ROOT / "scripts/localstack"), str(port), folder], {}
        with subprocess.Popen(
            command, env=os.environ | env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                _make_bucket(process)
                yield Server(name, "s3://bench", process.pid)
            finally:
                process.terminate()


def _versitygw() -> str | None:
    """Return the path of versitygw, which is built if Go is installed; None without both."""
    folder = Path(sys.executable).parent
    program = folder / "versitygw"
    if not program.exists() and (go := shutil.which("go")):
        subprocess.run([go, "install", MODULE], env=os.environ | {"GOBIN": str(folder)}, check=True)
    return str(program) if program.exists() else None


def _memory_folder() -> str | None:
    """Return a folder in memory if it is large enough: real S3 does not use this machine's disk."""
    shared = "/dev/shm"
    free = shutil.disk_usage(shared).free if Path(shared).is_dir() else 0
    return shared if free > REQUIRED_BYTES else None


def _make_bucket(process: subprocess.Popen[bytes]) -> None:
    client, deadline = boto3.client("s3"), time.monotonic() + START_TIMEOUT
    while True:
        try:
            client.create_bucket(Bucket="bench")
            return
        except (BotoCoreError, ClientError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"scripts/bench: the S3 server did not start: {error}") from error
            time.sleep(0.1)
