"""The image `keepfit` in real containers, run by docker or the engine in CONTAINER_ENGINE."""

from __future__ import annotations

import fcntl
import functools
import os
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.e2e.process import ROOT, Process

ENGINE = os.environ.get("CONTAINER_ENGINE", "docker")

HARDENED = (
    "--read-only",
    "--tmpfs=/tmp",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
)
"""Options as in the job definition: only /tmp is writable, and no extra privileges."""

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2", "AWS_EC2_METADATA_DISABLED": "true"}


def engine(*args: str | os.PathLike[str]) -> str:
    """Run an engine command and return its output; a failure fails the test with its reason."""
    done = subprocess.run([ENGINE, *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{ENGINE} {' '.join(map(str, args))}:\n{done.stderr}"
    return done.stdout


@functools.cache
def image() -> str:
    """Return the image's name: IMAGE_TO_TEST, or one built from this checkout by scripts/image."""
    if "IMAGE_TO_TEST" not in os.environ:
        with (ROOT / "Dockerfile").open() as one_at_a_time:
            fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
            subprocess.run([ROOT / "scripts/image"], check=True)
    return os.environ.get("IMAGE_TO_TEST", "keepfit")


def store_environment() -> dict[str, str]:
    """Return the variables that a container needs to reach the S3 server of the tests."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
    return {name: os.environ[name] for name in names}


class Container(Process):
    """A running container, whose output is read as it is written."""

    def __init__(
        self, command: Sequence[str], options: Sequence[str], image: str, env: dict[str, str]
    ):
        self.name = f"keepfit-{uuid.uuid4().hex[:12]}"
        settings = [f"--env={key}={value}" for key, value in env.items()]
        # The servers of the tests listen on this machine's loopback address.
        common = ["--rm", "--network=host", f"--name={self.name}"]
        super().__init__(
            subprocess.Popen(
                [ENGINE, "run", *common, *settings, *options, image, *command],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
            )
        )

    def stop(self, grace: int = 30) -> None:
        """Send SIGTERM, and SIGKILL after the grace period, as orchestrators do."""
        engine("stop", f"--time={grace}", self.name)

    def kill(self) -> None:
        """Send SIGKILL to the whole container."""
        engine("kill", "--signal=KILL", self.name)

    def inspect(self, form: str) -> str:
        """Return one property, by a Go template."""
        return engine("inspect", f"--format={form}", self.name).strip()


@contextmanager
def container(
    *command: str, options: Sequence[str] = (), image_name: str | None = None, **env: str
) -> Iterator[Container]:
    """Start a container, which is removed at the end of the block."""
    running = Container(command, options, image_name or image(), QUIET | env)
    try:
        yield running
    finally:
        subprocess.run([ENGINE, "rm", "--force", running.name], capture_output=True, check=False)
        running.end()
