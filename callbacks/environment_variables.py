"""The environment variables of keepfit, and those that have no effect because none is named so."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Final

from keepfit.callbacks import events
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.runner_settings import (
    LimitSettings,
    NoticeSettings,
    NotificationSettings,
    PriceSettings,
    RestartSettings,
)
from keepfit.callbacks.setting_values import PREFIX
from keepfit.callbacks.settings import Settings
from keepfit.callbacks.storage.s3 import options

log = get_logger()

RESUBMITTED_AT: Final = "KEEPFIT_RESUBMITTED_AT"
"""Set in a job by the function that submits it again (infra/functions/resubmit.py)."""

MAX_WAIT: Final = "KEEPFIT_MAX_WAIT"
OTHER_JOB: Final = "KEEPFIT_OTHER_JOB"
WAITING_SINCE: Final = "KEEPFIT_WAITING_SINCE"
"""Set in a job for the function that ends or moves jobs that wait (infra/functions/waiting.py)."""


def setting_variables() -> frozenset[str]:
    """Return the variables that set a field of the settings; their case does not matter."""
    return frozenset(
        variable
        for kind in (
            Settings,
            NoticeSettings,
            NotificationSettings,
            RestartSettings,
            PriceSettings,
            LimitSettings,
        )
        for variable in kind.variables()
    )


def known_variables() -> frozenset[str]:
    """Return all variables that keepfit reads or sets."""
    return setting_variables() | {
        *options.VARIABLES,
        RESUBMITTED_AT,
        MAX_WAIT,
        OTHER_JOB,
        WAITING_SINCE,
    }


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str | None]:
    """Return the variables that look like keepfit's and are not, each with the nearest known one.

    Args:
        environ: the variables by name; only their names are used.
    """
    known, settings = known_variables(), setting_variables()
    return {
        name: _nearest(name, known)
        for name in sorted(environ)
        if name.upper().startswith(PREFIX) and name not in known and name.upper() not in settings
    }


@cache
def warn_of_unknown_variables() -> None:
    """Log the variables of this process that have no effect, once in the process."""
    for name, nearest in unknown_variables(os.environ).items():
        log.warning(
            events.VARIABLE_UNKNOWN,
            variable=name,
            reason="keepfit has no variable of this name, so it has no effect",
            fix=f"did you mean {nearest}?" if nearest else "unset it; docs/commands.md lists all",
        )


def _nearest(name: str, known: Collection[str]) -> str | None:
    """Return the known variable that is most similar after the prefix, or None."""
    parts = [variable.removeprefix(PREFIX) for variable in sorted(known)]
    found = get_close_matches(name.upper().removeprefix(PREFIX), parts, 1)
    return f"{PREFIX}{found[0]}" if found else None
