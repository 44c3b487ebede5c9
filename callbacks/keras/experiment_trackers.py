"""A warning for callbacks of experiment trackers, which begin a new run in each attempt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from keepfit.callbacks import events
from keepfit.callbacks.logs.logger import get_logger

log = get_logger()

CONTINUE_RUN: Final[Mapping[str, str]] = {
    "mlflow": "call mlflow.start_run(run_id=…) before fit, with an id that each attempt knows",
    "wandb": "call wandb.init(id=…, resume='allow'), with an id that each attempt knows",
}
"""How a script continues one run of the tracker, by the name of the tracker's package."""


def warn_of_new_runs(callbacks: Iterable[Any]) -> None:
    """Log a warning for each tracker that one of the callbacks, or its class, belongs to."""
    packages = {kind.__module__.partition(".")[0] for c in callbacks for kind in type(c).__mro__}
    for package in sorted(packages & CONTINUE_RUN.keys()):
        log.warning(
            events.TRACKER_STARTS_OVER,
            tracker=package,
            reason="it begins a new run in each attempt, and knows nothing of the one before",
            fix=CONTINUE_RUN[package],
        )
