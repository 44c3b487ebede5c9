"""`keepfit push`: an image of this machine into the deployment's repository."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess  # nosec B404 # starts docker or podman
import sys
from collections.abc import Sequence
from typing import Annotated, Final

import typer

from keepfit.callbacks import events
from keepfit.callbacks.errors import EXIT_REFUSED
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.masking import HIDDEN
from keepfit.job.commands.failures import aws_errors_exit, fail
from keepfit.job.commands.options import Deployment

log = get_logger()

_ENGINES: Final = ("docker", "podman")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def push(
    image: Annotated[str, typer.Argument(help="An image of this machine.")] = "keepfit",
    tag: Annotated[str, typer.Option(help="Its tag in the repository.")] = "latest",
    engine: Annotated[
        str | None,
        typer.Option(metavar="PROGRAM", help="[default: docker, or podman if there is no docker]"),
    ] = None,
    name: Deployment = "keepfit",
) -> None:
    """Push IMAGE into the deployment's repository, from which jobs take it.

    Prints the three commands that it runs: login, tag and push.
    """
    from keepfit.infra import aws
    from keepfit.infra.deployment import find_deployment
    from keepfit.infra.jobs.images import region_of
    from keepfit.infra.jobs.registry import find_credentials

    program = _find_engine(engine)
    if not _TAG.fullmatch(tag):
        fail(f"a tag has up to 128 letters, digits, `_`, `.` and `-`. Received: --tag={tag!r}")
    with aws_errors_exit():
        repository = find_deployment(aws.client("cloudformation"), name).repository
        credentials = find_credentials(aws.client("ecr", region_of(repository)), repository)
    target = f"{repository}:{tag}"
    server = repository.partition("/")[0]
    login = ["login", "--username", credentials.user, "--password-stdin", server]
    _run([program, *login], credentials.password, secret=credentials.password)
    for command in (["tag", image, target], ["push", target]):
        _run([program, *command], secret=credentials.password)
    log.info(events.IMAGE_PUSHED, image=target)


def _find_engine(given: str | None) -> str:
    """Return the program that has the images; exit if there is none."""
    engines = (given,) if given else _ENGINES
    found = [engine for engine in engines if shutil.which(engine)]
    if not found:
        fail(
            f"there is no {' and no '.join(engines)} on the PATH: install one, or name a "
            f"compatible program with --engine"
        )
    return found[0]


def _run(command: Sequence[str], given: str = "", *, secret: str) -> None:
    """Print and run a command; exit with its last line if it fails.

    Args:
        given: its standard input.
        secret: a password that is not printed, even if the command prints it.
    """
    typer.echo(f"$ {shlex.join(command)}")
    with subprocess.Popen(  # noqa: S603 # nosec B603 # docker or podman, named by the user
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        assert process.stdin  # nosec B101 # narrows a type
        assert process.stderr  # nosec B101 # narrows a type
        try:
            with process.stdin:
                process.stdin.write(given)
        except BrokenPipeError:
            pass  # it has ended already; its exit code tells why
        last = ""
        for line in process.stderr:
            last = line.strip().replace(secret, HIDDEN) or last
            typer.echo(line.rstrip("\n").replace(secret, HIDDEN), file=sys.stderr)
    if process.returncode:
        program, action, *_ = command
        fail(
            f"`{program} {action}` ended with exit code {process.returncode}: "
            f"{last or 'it gave no reason'}",
            EXIT_REFUSED,
        )


def register(app: typer.Typer) -> None:
    """Register this command with `app`."""
    app.command()(push)
