"""Exactness warnings: why a resumed run may differ from one that was never interrupted."""

from __future__ import annotations

from typing import Any

from keepfit.callbacks import events
from keepfit.callbacks.errors import Refused
from keepfit.callbacks.logs.logger import get_logger

log = get_logger()


class ExactnessGuard:
    """A reporter of exactness warnings; with `exact`, it refuses a training that starts with one.

    Attributes:
        refusing: an exactness warning now ends the training.
    """

    def __init__(self, *, exact: bool = False) -> None:
        self._exact = exact
        self.refusing = exact

    def report(self, event: str, *, reason: str, fix: str, **fields: Any) -> None:
        """Report what can't be exact, why, and how to fix it.

        Raises:
            Refused: the training has to be exact, and has not started.
        """
        if not self.refusing:
            log.warning(event, reason=reason, fix=fix, **fields)
            return
        log.error(
            events.REFUSED,
            warning=event,
            reason=f"--exact: {reason}",
            fix=f"{fix}; or run it without --exact",
            **fields,
        )
        raise Refused

    def fit_begins(self) -> None:
        """Refuse on exactness warnings from now on, if `exact`: a training is about to start."""
        self.refusing = self._exact

    def training_has_begun(self) -> None:
        """Only log exactness warnings from now on: it is too late to refuse, training continues."""
        self.refusing = False
