"""What may make a resumed run differ from one that was never interrupted: said, or refused."""

from __future__ import annotations

from typing import Any

import structlog

from callbacks import events
from callbacks.errors import Misfit

log = structlog.get_logger("keepfit")


class Doubts:
    """Says each doubt in the log. With `exact`, a training that begins with one is refused.

    Attributes:
        refuses: whether a doubt ends the training now.
    """

    def __init__(self, *, exact: bool = False) -> None:
        self._exact = exact
        self.refuses = exact

    def raise_(self, event: str, *, reason: str, fix: str, **fields: Any) -> None:
        """Name what can't be exact, why, and the way out.

        Raises:
            Misfit: the training is to be exact, and has not begun.
        """
        if not self.refuses:
            log.warning(event, reason=reason, fix=fix, **fields)
            return
        log.error(
            events.MISFIT,
            doubt=event,
            reason=f"--exact: {reason}",
            fix=f"{fix}; or run it without --exact",
            **fields,
        )
        raise Misfit

    def fit_begins(self) -> None:
        """From now on there is a training to refuse."""
        self.refuses = self._exact

    def training_has_begun(self) -> None:
        """From now on it is too late to refuse: doubts are said, and training goes on."""
        self.refuses = False
