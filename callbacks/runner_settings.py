"""The settings of `keepfit run`: from flags, else from KEEPFIT_* variables, else the defaults."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

from keepfit.callbacks.engine import save_policy
from keepfit.callbacks.errors import (
    EXIT_CANCELLED,
    EXIT_FENCED,
    EXIT_LIMIT,
    EXIT_PREEMPTED,
    EXIT_REFUSED,
    EXIT_UNSAVED,
    ConfigurationError,
)
from keepfit.callbacks.journal.terms import MAX_PRICE
from keepfit.callbacks.masking import mask_url, without_userinfo
from keepfit.callbacks.setting_values import (
    Parser,
    SettingValues,
    checked,
    choice,
    count,
    flag,
    setting,
    text,
    unusable,
)

RESERVED_CODES = (EXIT_UNSAVED, EXIT_FENCED, EXIT_CANCELLED, EXIT_REFUSED, EXIT_LIMIT)

MAX_LIMIT = 1_000_000.0
"""Largest limit of a run, in hours or US dollars."""


class OnNotice(StrEnum):
    """How the time between a notice and the deadline is used."""

    TRAIN_ON = "train-on"
    LEAVE = "leave"


def _time(meaning: str) -> Parser:
    """Return a parser of times."""

    def parse(name: str, value: Any) -> str:
        if not save_policy.parse_duration(text(name, value)):
            raise unusable(name, value, f"{meaning}, or seconds")
        return str(value)

    return parse


def _exit_code(name: str, value: Any) -> int:
    """Return an exit code that has no other meaning."""
    code: int = count(1)(name, value)
    if code > 255 or code in RESERVED_CODES:
        raise ConfigurationError(
            f"the exit code for a preemption must be from 1 to 255, except {RESERVED_CODES}, "
            f"which have other meanings. Received: preempted_exit_code={code}"
        )
    return code


def _number(expected: str, accepts: Callable[[float], bool]) -> Parser:
    """Return a parser of numbers that `accepts` is true for; None for an empty variable."""

    def parse(name: str, value: Any) -> float | None:
        if value == "":
            return None
        try:
            number = float(str(value))
        except ValueError:
            number = math.nan
        if not accepts(number):  # NaN is between no bounds
            raise unusable(name, value, expected)
        return number

    return parse


def _limit(unit: str) -> Parser:
    """Return a parser of limits."""
    return _number(
        f"a number of {unit} above 0, up to {MAX_LIMIT:g}", lambda limit: 0 < limit <= MAX_LIMIT
    )


_price: Final = _number(
    f"a price in US dollars per hour, from 0 to {MAX_PRICE:g}",
    lambda price: 0 <= price <= MAX_PRICE,
)


def _check_watch(value: str) -> None:
    if "://" in value and not value.startswith(("http://", "https://")):
        raise ConfigurationError(
            f"watch must be the path of a file or an http(s):// URL. "
            f"Received: watch={mask_url(value)!r}"
        )


def _check_notify(value: str) -> None:
    for number, url in enumerate(value.split(), 1):
        if not _is_http_url(url):  # it may be secret, so it is not shown
            raise ConfigurationError(
                f"notify must be the http(s):// URLs of webhooks, separated by spaces, and "
                f"number {number} of them is not"
            )


def _is_http_url(text: str) -> bool:
    """Return whether the text is an http(s) URL with a host, of characters that a request can have.

    The userinfo may have any characters, as it is not a part of the request's address.
    """
    address, _ = without_userinfo(text)
    try:
        parts = urlsplit(address)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    is_sendable = address.isascii() and text.isprintable()
    return parts.scheme in ("http", "https") and has_host and is_sendable


@dataclass(frozen=True)
class NoticeSettings(SettingValues):
    """Where notices come from, and how the process reacts to them."""

    on_notice: OnNotice = setting(OnNotice.TRAIN_ON, choice(OnNotice))
    leave_at_once: bool = setting(False, flag)
    preempted_exit_code: int = setting(EXIT_PREEMPTED, _exit_code)
    grace: str = setting("30s", _time('the time from SIGTERM to SIGKILL: "30s", "2min"'))
    watch: str = setting("", checked(_check_watch))

    @property
    def grace_seconds(self) -> float:
        """Seconds from SIGTERM to SIGKILL."""
        return save_policy.parse_duration(self.grace) or 0.0

    def hold_until_deadline(self, environment: Mapping[str, str]) -> bool:
        """Return whether to wait, after the last save, until a Spot instance is gone.

        AWS Batch would start the next attempt on it as soon as this one has exited.
        """
        batch = environment.keys() & {"AWS_BATCH_JOB_ID", "AWS_BATCH_JOB_ATTEMPT"}
        return bool(batch) and not self.leave_at_once


@dataclass(frozen=True)
class RestartSettings(SettingValues):
    """How often `keepfit run` starts the training again on the same machine.

    Attributes:
        restarts: number of attempts after the first one, at most.
    """

    restarts: int = setting(0, count(0))


@dataclass(frozen=True)
class PriceSettings(SettingValues):
    """What the machine costs, in US dollars per hour; None if it is not known.

    Attributes:
        hourly_price: what the machine of an attempt costs.
        on_demand_price: what a machine of its type costs on demand.
    """

    hourly_price: float | None = setting(None, _price)
    on_demand_price: float | None = setting(None, _price)


@dataclass(frozen=True)
class LimitSettings(SettingValues):
    """What the attempts of a run may use, all of them together; None for no limit.

    Attributes:
        max_hours: hours of their processes.
        max_cost: US dollars for their machines in these hours.
    """

    max_hours: float | None = setting(None, _limit("hours"))
    max_cost: float | None = setting(None, _limit("US dollars"))


@dataclass(frozen=True)
class NotificationSettings(SettingValues):
    """Where `keepfit run` sends notifications, and when a training has stalled.

    Attributes:
        notify: http(s):// URLs, separated by spaces.
        stalled_after: time without a batch after which a fit under way has stalled.
    """

    notify: str = setting("", checked(_check_notify))
    stalled_after: str = setting("30min", _time('a time: "30min", "2h"'))

    @property
    def urls(self) -> tuple[str, ...]:
        """The addresses, each once."""
        return tuple(dict.fromkeys(self.notify.split()))

    @property
    def stalled_seconds(self) -> float:
        """Seconds without a batch after which a fit under way has stalled."""
        return save_policy.parse_duration(self.stalled_after) or 0.0
