"""What may make a resumed run differ from one that was never interrupted: said, or refused."""

from __future__ import annotations

from typing import Any

import structlog

from keepfit.callbacks import events
from keepfit.callbacks.errors import Refused

log = structlog.get_logger("keepfit")


class ExactnessGuard:
    """Says each doubt in the log. With `exact`, a training that begins with one is refused.

    Attributes:
        refuses: whether a doubt ends the training now.
    """

    def __init__(self, *, exact: bool = False) -> None:
        self._exact = exact
        self.refusing = exact

    def report(self, event: str, *, reason: str, fix: str, **fields: Any) -> None:
        """Name what can't be exact, why, and the way out.

        Raises:
            Misfit: the training is to be exact, and has not begun.
        """
        if not self.refusing:
            log.warning(event, reason=reason, fix=fix, **fields)
            return
        log.error(
            events.REFUSED,
            doubt=event,
            reason=f"--exact: {reason}",
            fix=f"{fix}; or run it without --exact",
            **fields,
        )
        raise Refused

    def fit_begins(self) -> None:
        """From now on there is a training to refuse."""
        self.refusing = self._exact

    def training_has_begun(self) -> None:
        """From now on it is too late to refuse: a doubt is logged, and training goes on."""
        self.refusing = False
