"""Parse and check the request of `keepfit submit`."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from keepfit.callbacks import events
from keepfit.callbacks.errors import ConfigurationError
from keepfit.callbacks.launch.arguments import has_secret, is_secret
from keepfit.callbacks.launch.process import Launch
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.masking import mask_urls
from keepfit.callbacks.runner_settings import NotificationSettings, PriceSettings
from keepfit.callbacks.storage import check_uri
from keepfit.infra.deployment import DEFAULT
from keepfit.infra.jobs.bundle import Bundle
from keepfit.job.commands.failures import aws_errors_exit, fail, store_errors_exit
from keepfit.job.commands.job_polling import summarize_run
from keepfit.job.notifications.webhook import may_be_secret
from keepfit.job.process.program import check_program, command_of

log = get_logger()

NOTIFY = "KEEPFIT_NOTIFY"

_MEMORY = re.compile(r"(\d+)\s*(MiB|GiB)")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)


def variables(given: list[str]) -> dict[str, str]:
    """Return the variables of `--env` by name. Values may be secret, and are never shown."""
    return dict(_named("--env", "VALUE", given))


def secrets(given: list[str], variables: Collection[str]) -> dict[str, str]:
    """Return the ARNs of `--secret` by the names of their variables.

    Args:
        variables: names of the variables that have other values.
    """
    from keepfit.infra.jobs.secret_arns import FORMS, is_secret_arn

    pairs = _named("--secret", "ARN", given)
    names = Counter([*variables, *(name for name, _ in pairs)])
    for name, arn in pairs:
        if names[name] > 1:
            fail(f"the variable {name} is given more than once. Received: --secret={name!r}")
        if not is_secret_arn(arn):  # it may be the secret itself, so it is not shown
            fail(f"the value of --secret {name}=… is not the ARN of a secret: {FORMS}")
    return dict(pairs)


def notify_variable(urls: list[str]) -> dict[str, str]:
    """Return the variable that has the effect of `--notify`; exit if it can't be used."""
    if not urls:
        return {}
    with store_errors_exit():
        return {NOTIFY: NotificationSettings.resolve(notify=" ".join(urls)).notify}


def warn_of_visible(variables: Mapping[str, str], arguments: Sequence[str]) -> None:
    """Log a warning if a variable or an argument seems to be secret: AWS Batch shows them."""
    names = [n for n, value in variables.items() if _may_be_secret(n, value)]
    in_arguments = has_secret(arguments)
    if names or in_arguments:
        log.warning(
            events.VISIBLE_IN_JOB,
            variables=names,
            arguments=in_arguments,
            reason="everyone who may call batch:DescribeJobs can read --env, --notify and ARGS",
            fix="pass a secret with --secret NAME=ARN, of Secrets Manager or SSM",
        )


def _may_be_secret(name: str, value: str) -> bool:
    if name == NOTIFY and any(map(may_be_secret, value.split())):
        return True
    return is_secret(name) or mask_urls(value) != value


def _named(option: str, value: str, given: list[str]) -> list[tuple[str, str]]:
    """Return the pairs NAME=VALUE of an option; what has no name is not shown: it may be secret."""
    pairs = []
    for number, pair in enumerate(given, 1):
        if not (match := _VARIABLE.fullmatch(pair)):
            fail(f"a variable must be given as NAME={value}; {option} number {number} is not")
        if match[1].startswith("AWS_BATCH"):
            fail(f"AWS Batch sets the variables AWS_BATCH… itself. Received: {option}={match[1]!r}")
        pairs.append((match[1], match[2]))
    return pairs


def selected_variables(
    save_every: str | None, *, exact: bool, fresh: bool, resume: bool, only_explicit: bool
) -> dict[str, str]:
    """Return the variables that have the effect of these flags of `keepfit run`."""
    flags = {
        "KEEPFIT_SAVE_EVERY": save_every,
        "KEEPFIT_EXACT": "1" if exact else None,
        "KEEPFIT_FRESH": "1" if fresh else None,
        "KEEPFIT_RESUME": "1" if resume else None,
        "KEEPFIT_ONLY_EXPLICIT": "1" if only_explicit else None,
    }
    return {name: value for name, value in flags.items() if value}


def storage_variables(given: Mapping[str, str], base: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables of S3's options that this process has, for the job.

    Exits if they contradict those of `--env` or of the job definition, as every attempt would.

    Args:
        given: the variables of `--env`, which take precedence.
        base: the job definition, whose variables apply to what is not given.
    """
    from keepfit.callbacks.storage.s3.options import RequestOptions, set_variables

    own = set_variables(os.environ)
    with store_errors_exit():
        listed = base["containerProperties"].get("environment", ())
        defined = {variable["name"]: variable.get("value", "") for variable in listed}
        RequestOptions.of({**defined, **own, **given})
    return own


def price_variables(
    given: PriceSettings, compute: Sequence[Mapping[str, Any]], region: str
) -> dict[str, str]:
    """Return the variables with the prices of the job's machines, as far as they are known.

    Args:
        given: the prices that the user has given; AWS is asked only if there is none.
        compute: the compute environments of the job's queue.
    """
    from keepfit.infra import aws
    from keepfit.infra.jobs.prices import Prices, find_prices

    prices = Prices(given.hourly_price, given.on_demand_price)
    if prices == Prices():
        prices = find_prices(compute, aws.client, region, datetime.now(UTC))
    if prices.gaps:
        log.info(
            events.PRICE_UNKNOWN,
            reason="; ".join(prices.gaps),
            fix="give --hourly-price and --on-demand-price, or allow "
            "ec2:DescribeSpotPriceHistory and pricing:GetProducts",
        )
    found = {
        "KEEPFIT_HOURLY_PRICE": prices.hourly,
        "KEEPFIT_ON_DEMAND_PRICE": prices.on_demand,
    }
    return {name: f"{price:.6g}" for name, price in found.items() if price is not None}


def given_prices(
    hourly: str | None, on_demand: str | None, environment: Mapping[str, str]
) -> PriceSettings:
    """Return the prices of the options, else those of `--env`, else those of this process.

    Exits if one of them is no price, as every attempt would.

    Args:
        environment: the variables of `--env`.
    """
    with store_errors_exit():
        return PriceSettings.resolve(
            hourly_price=hourly or environment.get("KEEPFIT_HOURLY_PRICE"),
            on_demand_price=on_demand or environment.get("KEEPFIT_ON_DEMAND_PRICE"),
        )


def mebibytes(memory: str | None) -> int | None:
    """Return the MiB of a text like 8GiB or 8192MiB."""
    if memory is None:
        return None
    match = _MEMORY.fullmatch(memory.strip())
    if not match or not int(match[1]):
        fail(f"memory must be given as 8GiB or 8192MiB. Received: --memory={memory!r}")
    return int(match[1]) * (1024 if match[2] == "GiB" else 1)


@dataclass(frozen=True)
class Upload:
    """The folder that a job needs, and the command line that starts the training in it.

    Attributes:
        name: the default name of the run.
        folder: the folder; Python imports from it.
        file: the file in it that the archive must contain, if it is known.
        command: the part of the command line of `keepfit run` that names the program.
    """

    name: str
    folder: Path
    file: str | None
    command: tuple[str, ...]


def find_upload(target: str, *, module: bool) -> Upload:
    """Return what to upload for a script, or for a module in the current folder; exit if none."""
    program = command_of(target, [], module=module)
    name = Launch.of_program(program).run_name()
    if not module:
        try:
            check_program(program)
        except ConfigurationError as error:
            fail(str(error))
        real = Path(target).resolve()  # Python imports from the folder of the file itself
        return Upload(name, real.parent, real.name, (real.name,))
    folder = Path.cwd()
    spec = PathFinder.find_spec(target.partition(".")[0], [str(folder)])
    if spec is None:
        fail(
            f"the current folder, {str(folder)!r}, has no module {target!r}: submit it from the "
            f"folder in which `python -m {target}` is started"
        )
    file = Path(spec.origin).relative_to(folder).as_posix() if spec.origin else None
    return Upload(name, folder, file, ("-m", target))


def pack_folder(upload: Upload, max_size: int) -> Bundle:
    """Return the folder as an archive of at most `max_size` MiB."""
    from keepfit.infra.jobs.bundle import BundleError, pack_bundle

    with store_errors_exit():
        try:
            return pack_bundle(upload.folder, max_size << 20, script=upload.file)
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
