"""Parse and check the request of `keepfit submit`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from keepfit.callbacks.errors import ConfigurationError
from keepfit.callbacks.storage import check_uri
from keepfit.infra.deployment import DEFAULT
from keepfit.infra.jobs.bundle import Bundle
from keepfit.job.commands.failures import aws_errors_exit, fail, store_errors_exit
from keepfit.job.commands.job_polling import summarize_run

_MEMORY = re.compile(r"(\d+)\s*(MiB|GiB)")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)


def variables(given: list[str]) -> dict[str, str]:
    """Return the variables of `--env` by name. Values may be secret, and are never shown."""
    for pair in given:
        name = pair.partition("=")[0]
        if not _VARIABLE.fullmatch(pair):
            fail(f"a variable must be given as NAME=VALUE. Received: --env={name!r}")
        if name.startswith("AWS_BATCH"):
            fail(f"AWS Batch sets the variables AWS_BATCH… itself. Received: --env={name!r}")
    return dict(pair.split("=", 1) for pair in given)


def selected_variables(
    save_every: str | None, *, exact: bool, fresh: bool, resume: bool
) -> dict[str, str]:
    """Return the variables that have the effect of these flags of `keepfit run`."""
    flags = {
        "KEEPFIT_SAVE_EVERY": save_every,
        "KEEPFIT_EXACT": "1" if exact else None,
        "KEEPFIT_FRESH": "1" if fresh else None,
        "KEEPFIT_RESUME": "1" if resume else None,
    }
    return {name: value for name, value in flags.items() if value}


def mebibytes(memory: str | None) -> int | None:
    """Return the MiB of a text like 8GiB or 8192MiB."""
    if memory is None:
        return None
    match = _MEMORY.fullmatch(memory.strip())
    if not match or not int(match[1]):
        fail(f"memory must be given as 8GiB or 8192MiB. Received: --memory={memory!r}")
    return int(match[1]) * (1024 if match[2] == "GiB" else 1)


def pack_script(script: Path, max_size: int) -> Bundle:
    """Return the folder of the script as an archive of at most `max_size` MiB."""
    from keepfit.infra.jobs.bundle import BundleError, pack_bundle

    with store_errors_exit():
        try:
            return pack_bundle(script.parent, max_size << 20, script=script.name)
        except BundleError as error:
            fail(str(error))


def check_store(store: str) -> None:
    """Exit if a job on AWS can't reach the store: it can't read folders of this machine."""
    try:
        check_uri(store)
    except ConfigurationError as error:
        fail(str(error))
    if not store.startswith("s3://"):
        fail(f"a job on AWS can only use a store s3://BUCKET/PREFIX. Received: --store={store!r}")


def check_free(batch: Any, queue: str, run: str, store: str, *, resume: bool, fresh: bool) -> None:
    """Exit if the run has a job, or exists already and the user did not choose how to proceed.

    Two jobs of a run would fence each other; and no old run is continued by accident.
    """
    from keepfit.infra.jobs.lookup import jobs_of

    with aws_errors_exit():
        active = [job for job in jobs_of(batch, queue, run) if not job.over]
    if active:
        fail(
            f"run {run!r} has a job already, {active[0].id} ({active[0].status}): follow it with "
            f"`keepfit status {run}`, cancel it with `keepfit cancel {run}`, or use another --run"
        )
    found = None if fresh else summarize_run(store, run)
    if found and not resume:
        fail(
            f"{store} has a run {run!r} already ({found.state}): use --resume to continue it, "
            f"--fresh to start over, or another --run"
        )
    if resume and not found and not fresh:
        fail(
            f"{store} has no run {run!r} to continue: `keepfit ls {store}` lists its runs; "
            f"without --resume, a new run starts"
        )


def next_steps(run: str, deployment: str, queue: str | None) -> str:
    """Return the run's name, and the commands to follow it."""
    given = "" if deployment == DEFAULT else f" --name {deployment}"
    given += f" --queue {queue}" if queue else ""
    return f"{run}\n  keepfit status {run}{given}\n  keepfit logs {run} -f{given}"
