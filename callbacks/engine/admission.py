"""Whether an attempt may train at all, asked before it claims its run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keepfit.callbacks.checkpoint.format.head import Head
    from keepfit.callbacks.storage.base import Store

Admission = Callable[["Store", str, "Head | None"], None]
"""Called before a run is claimed, with its store, its name and its HEAD if it has one. Raises
LimitReached or Refused if this attempt must not train."""


def admit_all(store: Store, run: str, head: Head | None) -> None:
    """Admit the attempt: the run has no limits."""
    del store, run, head
