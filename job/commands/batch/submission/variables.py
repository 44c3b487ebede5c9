"""The variables of a job: given ones, secrets, and those with the effect of options."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from keepfit.callbacks import events
from keepfit.callbacks.launch.arguments import has_secret, is_secret
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.masking import mask_urls
from keepfit.callbacks.runner_settings import LimitSettings, NotificationSettings, PriceSettings
from keepfit.infra.jobs.lookup import variables_of
from keepfit.job.commands.batch.submission.options import SubmitOptions
from keepfit.job.commands.failures import fail, store_errors_exit
from keepfit.job.notifications.webhook import may_be_secret

log = get_logger()

NOTIFY = "KEEPFIT_NOTIFY"

_MEMORY = re.compile(r"(\d+)\s*(MiB|GiB)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VARIABLE = re.compile(rf"({_NAME.pattern})=(.*)", re.DOTALL)


def named_values(option: str, value: str, given: Sequence[str]) -> dict[str, str]:
    """Return the values of a repeatable option NAME=VALUE by their names; exit for a mistake.

    What has no name is not shown: it may be secret.

    Args:
        value: the word for a value in errors.
    """
    pairs: dict[str, str] = {}
    for number, pair in enumerate(given, 1):
        if not (match := _VARIABLE.fullmatch(pair)):
            fail(f"a variable must be given as NAME={value}; {option} number {number} is not")
        if match[1] in pairs and option == "--secret":
            fail(
                f"the variable {match[1]} is given more than once. Received: {option}={match[1]!r}"
            )
        pairs[match[1]] = match[2]
    return pairs


def check_names(env: Mapping[str, str], secrets: Mapping[str, str]) -> None:
    """Exit if a variable has no valid name, two values, or a secret's value in place of its ARN."""
    from keepfit.infra.jobs.secret_arns import FORMS, is_secret_arn

    for option, names in (("--env", env), ("--secret", secrets)):
        for name in names:
            if not _NAME.fullmatch(name):
                fail(f"{name!r} is not the name of a variable. Received: {option}={name!r}")
            if name.startswith("AWS_BATCH"):
                fail(f"AWS Batch sets the variables AWS_BATCH… itself. Received: {option}={name!r}")
    for name, arn in secrets.items():
        if name in env:
            fail(f"the variable {name} is given more than once. Received: --secret={name!r}")
        if not is_secret_arn(arn):  # it may be the secret itself, so it is not shown
            fail(f"the value of --secret {name}=… is not the ARN of a secret: {FORMS}")


def notify_variable(urls: Sequence[str]) -> dict[str, str]:
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


def selected_variables(options: SubmitOptions) -> dict[str, str]:
    """Return the variables that have the effect of these options of `keepfit run`."""
    flags = {
        "KEEPFIT_SAVE_EVERY": options.save_every,
        "KEEPFIT_EXACT": "1" if options.exact else None,
        "KEEPFIT_FRESH": "1" if options.fresh else None,
        "KEEPFIT_RESUME": "1" if options.resume else None,
        "KEEPFIT_ONLY_EXPLICIT": "1" if options.only_explicit else None,
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
        RequestOptions.of({**variables_of(base["containerProperties"]), **own, **given})
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


def limit_variables(
    max_hours: str | None, max_cost: str | None, environment: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables with the limits of the run: of the options, `--env`, or this process.

    Exits if one of them is no limit, as every attempt would.

    Args:
        environment: the variables of `--env`.
    """
    with store_errors_exit():
        limits = LimitSettings.resolve(
            max_hours=max_hours or environment.get("KEEPFIT_MAX_HOURS"),
            max_cost=max_cost or environment.get("KEEPFIT_MAX_COST"),
        )
    found = {"KEEPFIT_MAX_HOURS": limits.max_hours, "KEEPFIT_MAX_COST": limits.max_cost}
    return {name: f"{limit:g}" for name, limit in found.items() if limit is not None}


def mebibytes(memory: str | None) -> int | None:
    """Return the MiB of a text like 8GiB or 8192MiB."""
    if memory is None:
        return None
    match = _MEMORY.fullmatch(memory.strip())
    if not match or not int(match[1]):
        fail(f"memory must be given as 8GiB or 8192MiB. Received: --memory={memory!r}")
    return int(match[1]) * (1024 if match[2] == "GiB" else 1)
