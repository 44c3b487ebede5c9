"""What a user decides about notices: flags first, then KEEPFIT_* variables, then defaults."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from pydantic import field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from keepfit.callbacks.checkpoint import save_policy
from keepfit.callbacks.errors import (
    EXIT_CANCELLED,
    EXIT_FENCED,
    EXIT_PREEMPTED,
    EXIT_REFUSED,
    EXIT_UNSAVED,
    ConfigurationError,
)
from keepfit.callbacks.settings import resolve_settings

RESERVED_CODES = (EXIT_UNSAVED, EXIT_FENCED, EXIT_CANCELLED, EXIT_REFUSED)


class OnNotice(StrEnum):
    """What is done with the time that a notice leaves."""

    TRAIN_ON = "train-on"
    LEAVE = "leave"


class NoticeSettings(BaseSettings):
    """What is watched, and what follows a notice.

    Raises:
        ConfigurationError: by `resolve`, with one line that says what is wrong.
    """

    model_config = SettingsConfigDict(env_prefix="KEEPFIT_", frozen=True, extra="ignore")

    on_notice: OnNotice = OnNotice.TRAIN_ON
    leave_at_once: bool = False
    preempted_exit_code: int = EXIT_PREEMPTED
    grace: str = "30s"
    watch: str = ""

    @classmethod
    def resolve(cls) -> NoticeSettings:
        """The settings in force."""
        return resolve_settings(cls, {})

    @property
    def grace_seconds(self) -> float:
        """From SIGTERM to SIGKILL."""
        return save_policy.parse_duration(self.grace) or 0.0

    def hold_until_deadline(self, environment: Mapping[str, str]) -> bool:
        """Whether to stay until a Spot instance is gone.

        AWS Batch would start the next attempt on it as soon as this one has left.
        """
        batch = environment.keys() & {"AWS_BATCH_JOB_ID", "AWS_BATCH_JOB_ATTEMPT"}
        return bool(batch) and not self.leave_at_once

    @field_validator("preempted_exit_code")
    @classmethod
    def _code_is_free(cls, value: int) -> int:
        if not 1 <= value <= 255 or value in RESERVED_CODES:
            raise ConfigurationError(
                f"the exit code for a preemption is one of 1 to 255, but none of {RESERVED_CODES}, which "
                f"have other meanings. Received: preempted_exit_code={value}"
            )
        return value

    @field_validator("grace")
    @classmethod
    def _grace_is_a_time(cls, value: str) -> str:
        if not save_policy.parse_duration(value):
            raise ConfigurationError(
                f'grace is the time from SIGTERM to SIGKILL: "30s", "2min", or seconds. '
                f"Received: grace={value!r}"
            )
        return value

    @field_validator("watch")
    @classmethod
    def _watch_is_file_or_url(cls, value: str) -> str:
        if "://" in value and not value.startswith(("http://", "https://")):
            raise ConfigurationError(
                f"what is watched is a file's path or an http(s):// address. "
                f"Received: watch={value!r}"
            )
        return value
