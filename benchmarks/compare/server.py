"""The S3 server that all methods use: the fastest that can be had here."""

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
ROOT = Path(__file__).parents[3]
ROOM = 12 << 30
"""Bytes that what is measured may take on the server at once."""
START = 120.0


@dataclass(frozen=True)
class Server:
    """An S3 server with an empty bucket.

    Attributes:
        name: for the tables.
        url: of the bucket.
        pid: its process, if it runs here.
    """

    name: str
    url: str
    pid: int | None = None

    def clear(self) -> None:
        """Remove all that was written."""
        bucket, _, prefix = self.url.removeprefix("s3://").partition("/")
        boto3.resource("s3").Bucket(bucket).objects.filter(Prefix=prefix).delete()


@contextmanager
def serving(bucket: str | None) -> Iterator[Server]:
    """The server that the environment names, if a bucket is given; else one that is started here.

    Args:
        bucket: s3://BUCKET[/PREFIX], on what AWS_ENDPOINT_URL_S3 names; what is written is removed.
    """
    if bucket:
        at = os.environ.get("AWS_ENDPOINT_URL_S3", "S3")
        yield Server(f"S3 at {at}", f"{bucket}/bench-{os.getpid()}")
        return
    program = _versitygw()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    secret = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "benchmark"}
    here = {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}", "AWS_REGION": "us-east-1"}
    os.environ.update({**secret, **here, "AWS_DEFAULT_REGION": "us-east-1"})
    with tempfile.TemporaryDirectory(dir=_roomy()) as folder:
        if program:
            name = f"versitygw {MODULE.rpartition('@')[2]}"
            command = [program, "--port", f"127.0.0.1:{port}", "--quiet", "posix", folder]
            env = {"ROOT_ACCESS_KEY": "bench", "ROOT_SECRET_KEY": "benchmark"}
        else:
            name = "LocalStack, slower than a real instance's way to S3"
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
    """The program, built where Go is at hand."""
    folder = Path(sys.executable).parent
    program = folder / "versitygw"
    if not program.exists() and (go := shutil.which("go")):
        subprocess.run([go, "install", MODULE], env=os.environ | {"GOBIN": str(folder)}, check=True)
    return str(program) if program.exists() else None


def _roomy() -> str | None:
    """Memory, if there is enough: the way to S3 has no disk of this machine in it."""
    shared = "/dev/shm"
    free = shutil.disk_usage(shared).free if Path(shared).is_dir() else 0
    return shared if free > ROOM else None


def _make_bucket(process: subprocess.Popen[bytes]) -> None:
    client, until = boto3.client("s3"), time.monotonic() + START
    while True:
        try:
            client.create_bucket(Bucket="bench")
            return
        except (BotoCoreError, ClientError) as error:
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"scripts/bench: the S3 server did not start: {error}") from error
            time.sleep(0.1)
