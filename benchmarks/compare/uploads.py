"""The ways in which a folder gets to S3 and back, as people do it who have no better."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import boto3


class Way(Protocol):
    """Brings a folder's files to S3, and back."""

    name: str

    def send(self, folder: Path, url: str) -> None: ...

    def fetch(self, url: str, folder: Path) -> None: ...


class Boto3:
    """upload_file and download_file, one file after the other, with their own settings."""

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
    """s5cmd, which sends all files, and parts of large ones, at once."""

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
    """The bucket, and the key."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return bucket, key


def files_in(folder: Path) -> list[Path]:
    """All, in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())
