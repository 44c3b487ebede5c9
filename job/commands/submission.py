"""What `keepfit submit` is asked for, and whether that can be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from keepfit.infra.deployment import DEFAULT
from keepfit.infra.jobs.bundle import Bundle
from keepfit.job.commands.failures import aws_errors_exit, fail, store_errors_exit
from keepfit.job.commands.job_polling import summarize_run

_MEMORY = re.compile(r"(\d+)\s*(MiB|GiB)")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)


def variables(given: list[str]) -> dict[str, str]:
    """By name. Values may be secret, and are never shown."""
    for pair in given:
        name = pair.partition("=")[0]
        if not _VARIABLE.fullmatch(pair):
            fail(f"a variable is given as NAME=VALUE. Received: --env={name!r}")
        if name.startswith("AWS_BATCH"):
            fail(f"AWS Batch sets the variables AWS_BATCH… itself. Received: --env={name!r}")
    return dict(pair.split("=", 1) for pair in given)


def selected_variables(save_every: str | None, *, exact: bool, fresh: bool) -> dict[str, str]:
    """The variables that these flags of `keepfit run` stand for."""
    flags = {
        "KEEPFIT_SAVE_EVERY": save_every,
        "KEEPFIT_EXACT": "1" if exact else None,
        "KEEPFIT_FRESH": "1" if fresh else None,
    }
    return {name: value for name, value in flags.items() if value}


def mebibytes(memory: str | None) -> int | None:
    """Of 8GiB or 8192MiB."""
    if memory is None:
        return None
    match = _MEMORY.fullmatch(memory.strip())
    if not match or not int(match[1]):
        fail(f"memory is given as 8GiB or 8192MiB. Received: --memory={memory!r}")
    return int(match[1]) * (1024 if match[2] == "GiB" else 1)


def pack_script(script: Path, max_size: int) -> Bundle:
    """The folder of the script."""
    from keepfit.infra.jobs.bundle import BundleError, pack_bundle

    with store_errors_exit():
        try:
            return pack_bundle(script.parent, max_size << 20, script=script.name)
        except BundleError as error:
            fail(str(error))


def check_store(store: str) -> None:
    """A job sees no folder of this machine."""
    if not store.startswith("s3://"):
        fail(f"a job on AWS reaches no store but s3://BUCKET/PREFIX. Received: --store={store!r}")


def check_free(batch: Any, queue: str, run: str, store: str, *, resume: bool, fresh: bool) -> None:
    """Two jobs of a run would fence each other off; nobody goes on with an old one unawares."""
    from keepfit.infra.jobs.lookup import jobs_of

    with aws_errors_exit():
        at_work = [job for job in jobs_of(batch, queue, run) if not job.over]
    if at_work:
        fail(
            f"run {run!r} has a job already, {at_work[0].id} ({at_work[0].status}): follow it with "
            f"`keepfit status {run}`, end it with `keepfit cancel {run}`, or name another --run"
        )
    found = None if fresh else summarize_run(store, run)
    if found and not resume:
        fail(
            f"{store} has a run {run!r} already ({found.state}): --resume goes on with it, --fresh "
            f"begins it again, --run names another"
        )
    if resume and not found and not fresh:
        fail(
            f"{store} has no run {run!r} to go on with: `keepfit ls {store}` names those that it "
            f"has; without --resume, the run begins"
        )


def next_steps(run: str, deployment: str, queue: str | None) -> str:
    """What to type to follow the run."""
    given = "" if deployment == DEFAULT else f" --name {deployment}"
    given += f" --queue {queue}" if queue else ""
    return f"{run}\n  keepfit status {run}{given}\n  keepfit logs {run} -f{given}"
