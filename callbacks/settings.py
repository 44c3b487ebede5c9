"""The settings of a run: from arguments, else from KEEPFIT_* variables, else the defaults."""

from __future__ import annotations

from dataclasses import dataclass

from keepfit.callbacks.engine import save_policy
from keepfit.callbacks.errors import ConfigurationError
from keepfit.callbacks.launch.names import is_valid
from keepfit.callbacks.launch.process import default_run_name
from keepfit.callbacks.setting_values import SettingValues, checked, count, flag, setting
from keepfit.callbacks.storage.uri import check_uri


def _check_run(name: str) -> None:
    if not is_valid(name):
        raise ConfigurationError(
            "the name of a run has up to 128 letters, digits and . _ = + -, "
            f"starts with a letter or digit, and contains no slash. Received: run={name!r}"
        )


@dataclass(frozen=True)
class StoreSettings(SettingValues):
    """The store of runs."""

    store: str = setting("file://./runs", checked(check_uri))


@dataclass(frozen=True)
class Settings(StoreSettings):
    """The store and the name of a run, and when to save it.

    Attributes:
        resume: another script or other arguments continue the run.
        only_explicit: under `keepfit run`, only a `fit` with a Resumable is resumable.
    """

    run: str = setting(default_run_name, checked(_check_run))
    save_every: str = setting("auto", checked(save_policy.parse_save_policy))
    keep: int = setting(3, count(1))
    keep_fits: int = setting(0, count(0))
    fresh: bool = setting(False, flag)
    resume: bool = setting(False, flag)
    exact: bool = setting(False, flag)
    only_explicit: bool = setting(False, flag)
    job_attempt: int = setting(1, count(1), variable="AWS_BATCH_JOB_ATTEMPT")

    @property
    def starts_fresh(self) -> bool:
        """True if `fresh` applies to this attempt.

        AWS Batch starts every attempt of a job with the same settings; only the first starts fresh.
        """
        return self.fresh and self.job_attempt == 1
