"""The settings of a run: from arguments, else from KEEPFIT_* variables, else the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, TypeVar

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from keepfit.callbacks.engine import save_policy
from keepfit.callbacks.errors import ConfigurationError
from keepfit.callbacks.launch.names import is_valid
from keepfit.callbacks.launch.process import default_run_name
from keepfit.callbacks.masking import mask_urls
from keepfit.callbacks.storage import check_uri

T = TypeVar("T", bound=BaseSettings)


def resolve_settings(kind: type[T], given: Mapping[str, Any]) -> T:
    """Return settings of class `kind`; a value of None counts as not given.

    Raises:
        ConfigurationError: one of the values can't be used.
    """
    try:
        return kind(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, ConfigurationError):
            raise cause from None
        name = first["loc"][0] if first["loc"] else "settings"
        raise ConfigurationError(
            f"{name}: {first['msg']}. Received: {name}={mask_urls(repr(first['input']))}"
        ) from None


class StoreSettings(BaseSettings):
    """The store of runs.

    Raises:
        ConfigurationError: raised by `resolve`, with one line that names the mistake.
    """

    model_config = SettingsConfigDict(env_prefix="KEEPFIT_", frozen=True, extra="ignore")

    store: str = "file://./runs"

    @classmethod
    def resolve(cls, **given: Any) -> Self:
        """Return the settings in effect; a value of None counts as not given."""
        return resolve_settings(cls, given)

    @field_validator("store")
    @classmethod
    def _store_opens(cls, value: str) -> str:
        check_uri(value)
        return value


class Settings(StoreSettings):
    """The store and the name of a run, and when to save it.

    Attributes:
        resume: another script or other arguments continue the run.
        only_explicit: under `keepfit run`, only a `fit` with a Resumable is resumable.
    """

    run: str = Field(default_factory=default_run_name)
    save_every: str = "auto"
    keep: int = Field(default=3, ge=1)
    keep_fits: int = Field(default=0, ge=0)
    fresh: bool = False
    resume: bool = False
    exact: bool = False
    only_explicit: bool = False
    job_attempt: int = Field(default=1, validation_alias="AWS_BATCH_JOB_ATTEMPT", exclude=True)

    @property
    def starts_fresh(self) -> bool:
        """True if `fresh` applies to this attempt.

        AWS Batch starts every attempt of a job with the same settings; only the first starts fresh.
        """
        return self.fresh and self.job_attempt == 1

    @field_validator("run")
    @classmethod
    def _run_is_a_name(cls, value: str) -> str:
        if not is_valid(value):
            raise ConfigurationError(
                "the name of a run has up to 128 letters, digits and . _ = + -, "
                f"starts with a letter or digit, and contains no slash. Received: run={value!r}"
            )
        return value

    @field_validator("save_every")
    @classmethod
    def _save_every_parses(cls, value: str) -> str:
        save_policy.parse_save_policy(value)
        return value
