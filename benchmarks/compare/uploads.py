"""The ways to copy a folder to S3 and back, as users of the peers do it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import boto3


class Way(Protocol):
    """A way to copy a folder's files to S3 and back."""

    name: str

    def send(self, folder: Path, url: str) -> None:
        """Upload all files of the folder."""

    def fetch(self, url: str, folder: Path) -> None:
        """Download all files below the URL into the folder."""


class Boto3:
    """upload_file and download_file, one file after the other, with their default settings."""

    name = "boto3"

    def __init__(self) -> None:
        self._client: Any = boto3.client("s3")

    def send(self, folder: Path, url: str) -> None:
        bucket, prefix = parts(url)
        for file in files_in(folder):
            self._client.upload_file(str(file), bucket, f"{prefix}/{file.relative_to(folder)}")

    def fetch(self, url: str, folder: Path) -> None:
        bucket, prefix = parts(url)
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=f"{prefix}/"
        )
        for entry in (entry for page in pages for entry in page["Contents"]):
            path = folder / entry["Key"].removeprefix(f"{prefix}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            self._client.download_file(bucket, entry["Key"], str(path))


class S5cmd:
    """s5cmd, which transfers all files, and the parts of large ones, in parallel."""

    name = "s5cmd"

    def send(self, folder: Path, url: str) -> None:
        self._run("cp", f"{folder}/", f"{url}/")

    def fetch(self, url: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._run("cp", f"{url}/*", f"{folder}/")

    def _run(self, *args: str) -> None:
        program = str(Path(sys.executable).with_name("s5cmd"))
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3")
        server = ["--endpoint-url", endpoint] if endpoint else []
        subprocess.run([program, *server, "--log", "error", *args], check=True)


WAYS: Mapping[str, Callable[[], Way]] = {"boto3": Boto3, "s5cmd": S5cmd}


def parts(url: str) -> tuple[str, str]:
    """Split an S3 URL into the bucket and the key."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return bucket, key


def files_in(folder: Path) -> list[Path]:
    """Return all files in the folder and below, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())
