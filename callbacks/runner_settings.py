"""The settings of `keepfit run`: from flags, else from KEEPFIT_* variables, else the defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

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
from keepfit.callbacks.journal.document import MAX_PRICE
from keepfit.callbacks.masking import mask_url, without_userinfo
from keepfit.callbacks.settings import resolve_settings

RESERVED_CODES = (EXIT_UNSAVED, EXIT_FENCED, EXIT_CANCELLED, EXIT_REFUSED, EXIT_LIMIT)


MAX_LIMIT = 1_000_000.0
"""Largest limit of a run, in hours or US dollars."""


class OnNotice(StrEnum):
    """How the time between a notice and the deadline is used."""

    TRAIN_ON = "train-on"
    LEAVE = "leave"


class NoticeSettings(BaseSettings):
    """Where notices come from, and how the process reacts to them.

    Raises:
        ConfigurationError: raised by `resolve`, with one line that names the mistake.
    """

    model_config = SettingsConfigDict(env_prefix="KEEPFIT_", frozen=True, extra="ignore")

    on_notice: OnNotice = OnNotice.TRAIN_ON
    leave_at_once: bool = False
    preempted_exit_code: int = EXIT_PREEMPTED
    grace: str = "30s"
    watch: str = ""

    @classmethod
    def resolve(cls, **given: Any) -> Self:
        """Return the settings in effect; a value of None counts as not given."""
        return resolve_settings(cls, given)

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

    @field_validator("preempted_exit_code")
    @classmethod
    def _code_is_free(cls, value: int) -> int:
        if not 1 <= value <= 255 or value in RESERVED_CODES:
            raise ConfigurationError(
                f"the exit code for a preemption must be from 1 to 255, except {RESERVED_CODES}, "
                f"which have other meanings. Received: preempted_exit_code={value}"
            )
        return value

    @field_validator("grace")
    @classmethod
    def _grace_is_a_time(cls, value: str) -> str:
        return _time("grace", value, 'the time from SIGTERM to SIGKILL: "30s", "2min"')

    @field_validator("watch")
    @classmethod
    def _watch_is_file_or_url(cls, value: str) -> str:
        if "://" in value and not value.startswith(("http://", "https://")):
            raise ConfigurationError(
                f"watch must be the path of a file or an http(s):// URL. "
                f"Received: watch={mask_url(value)!r}"
            )
        return value


class RestartSettings(BaseSettings):
    """How often `keepfit run` starts the training again on the same machine.

    Attributes:
        restarts: number of attempts after the first one, at most.

    Raises:
        ConfigurationError: raised by `resolve`, with one line that names the mistake.
    """

    model_config = SettingsConfigDict(env_prefix="KEEPFIT_", frozen=True, extra="ignore")

    restarts: int = Field(default=0, ge=0)

    @classmethod
    def resolve(cls) -> RestartSettings:
        """Return the settings in effect."""
        return resolve_settings(cls, {})


class PriceSettings(BaseSettings):
    """What the machine costs, in US dollars per hour; None if it is not known.

    Attributes:
        hourly_price: what the machine of an attempt costs.
        on_demand_price: what a machine of its type costs on demand.

    Raises:
        ConfigurationError: raised by `resolve`, with one line that names the mistake.
    """

    model_config = SettingsConfigDict(env_prefix="KEEPFIT_", frozen=True, extra="ignore")

    hourly_price: float | None = None
    on_demand_price: float | None = None

    @classmethod
    def resolve(cls, **given: Any) -> Self:
        """Return the settings in effect; a value of None counts as not given."""
        return resolve_settings(cls, given)

    @field_validator("hourly_price", "on_demand_price", mode="before")
    @classmethod
    def _price_is_an_amount(cls, value: object, field: ValidationInfo) -> float | None:
        if value is None or value == "":
            return None
        try:
            price = float(str(value))
        except ValueError:
            price = math.nan
        if not 0 <= price <= MAX_PRICE:  # NaN is not
            raise ConfigurationError(
                f"{field.field_name} must be a price in US dollars per hour, from 0 to "
                f"{MAX_PRICE:g}. Received: {field.field_name}={value!r}"
            )
        return price


class LimitSettings(BaseSettings):
    """What the attempts of a run may use, all of them together; None for no limit.

    Attributes:
        max_hours: hours of their processes.
        max_cost: US dollars for their machines in these hours.

    Raises:
        ConfigurationError: raised by `resolve`, with one line that names the mistake.
    """

    model_config = SettingsConfigDict(env_prefix="KEEPFIT_", frozen=True, extra="ignore")

    max_hours: float | None = None
    max_cost: float | None = None

    @classmethod
    def resolve(cls, **given: Any) -> Self:
        """Return the settings in effect; a value of None counts as not given."""
        return resolve_settings(cls, given)

    @field_validator("max_hours", "max_cost", mode="before")
    @classmethod
    def _limit_is_positive(cls, value: object, field: ValidationInfo) -> float | None:
        if value is None or value == "":
            return None
        try:
            limit = float(str(value))
        except ValueError:
            limit = math.nan
        if not 0 < limit <= MAX_LIMIT:  # NaN is not
            unit = "hours" if field.field_name == "max_hours" else "US dollars"
            raise ConfigurationError(
                f"{field.field_name} must be a number of {unit} above 0, up to {MAX_LIMIT:g}. "
                f"Received: {field.field_name}={value!r}"
            )
        return limit


class NotificationSettings(BaseSettings):
    """Where `keepfit run` sends notifications, and when a training has stalled.

    Attributes:
        notify: http(s):// URLs, separated by spaces.
        stalled_after: time without a batch after which a fit under way has stalled.

    Raises:
        ConfigurationError: raised by `resolve`, with one line that names the mistake.
    """

    model_config = SettingsConfigDict(env_prefix="KEEPFIT_", frozen=True, extra="ignore")

    notify: str = ""
    stalled_after: str = "30min"

    @classmethod
    def resolve(cls, **given: str | None) -> NotificationSettings:
        """Return the settings in effect; a value of None counts as not given."""
        return resolve_settings(cls, given)

    @property
    def urls(self) -> tuple[str, ...]:
        """The addresses, each once."""
        return tuple(dict.fromkeys(self.notify.split()))

    @property
    def stalled_seconds(self) -> float:
        """Seconds without a batch after which a fit under way has stalled."""
        return save_policy.parse_duration(self.stalled_after) or 0.0

    @field_validator("notify")
    @classmethod
    def _notify_has_urls(cls, value: str) -> str:
        for number, url in enumerate(value.split(), 1):
            if not _is_http_url(url):  # it may be secret, so it is not shown
                raise ConfigurationError(
                    f"notify must be the http(s):// URLs of webhooks, separated by spaces, and "
                    f"number {number} of them is not"
                )
        return value

    @field_validator("stalled_after")
    @classmethod
    def _stalled_after_is_a_time(cls, value: str) -> str:
        return _time("stalled_after", value, 'a time: "30min", "2h"')


def _time(name: str, value: str, meaning: str) -> str:
    """Return the value of a setting if it is a time.

    Raises:
        ConfigurationError: it is none.
    """
    if not save_policy.parse_duration(value):
        raise ConfigurationError(
            f"{name} must be {meaning}, or seconds. Received: {name}={value!r}"
        )
    return value


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
