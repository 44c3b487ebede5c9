"""The most frequent events in words. Others are shown by their name and all of their fields.

Of several texts for an event, the first whose fields the event has is used.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from keepfit.callbacks import events


@dataclass(frozen=True)
class Words:
    """How users read an event.

    Attributes:
        template: a text with `{fields}`; it is used for events that have all of them.
        hidden: fields that only programs need.
    """

    template: str
    hidden: frozenset[str] = frozenset()

    @cached_property
    def fields(self) -> frozenset[str]:
        """The fields that the template shows."""
        parsed = string.Formatter().parse(self.template)
        return frozenset(name for _, name, _, _ in parsed if name)


PARTS: Final = (
    "productive",
    "validation",
    "startup",
    "restore",
    "saving",
    "other",
    "retrained",
    "unknown",
    "waiting",
)
"""The shares of time in the event `goodput`; its line has those that matter."""


def _words(template: str, *hidden: str) -> tuple[Words]:
    return (Words(template, frozenset(hidden)),)


WORDS: Final[Mapping[str, tuple[Words, ...]]] = {
    events.CLAIMED: _words("attempt {attempt} of run {run} in {store}"),
    events.FITS_HELD: _words("each fit is resumable, as run {run}"),
    events.RESUMED: _words("resumed at epoch {epoch}, batch {batch} (step {step})", "checkpoint"),
    events.ALREADY_FINISHED: _words("fit {fit} is finished already: {epochs} epochs, step {step}"),
    events.DATA_REPLAYED: _words("{batches} batches of input were read again in {seconds} s"),
    events.FILE_RESTORED: _words("restored {file} ({bytes} bytes)"),
    events.SAVED: _words(
        "saved epoch {epoch}, batch {batch} (step {step}): {mib} MiB in {seconds} s"
    ),
    events.SAVE_INTERVAL: _words("saves every {seconds} s"),
    events.FINISHED: _words("the fit has ended at step {step}, and is saved as run {run}"),
    events.STORE_RETRY: _words("the store is asked again in {seconds} s", "tries"),
    events.NOTICE: (
        *_words("notice from {source}, {seconds} s are left: {reaction}"),
        *_words("notice from {source}: {reaction}"),
    ),
    events.MACHINE_WATCHED: _words("watches for notices"),
    events.MACHINE_NOT_WATCHED: _words("no notices: {reason}", "machine", "file", "url"),
    events.PREEMPTED: _words("preempted by {source} at step {step}, {lost} batches lost", "saved"),
    events.HOLDING: _words("waits {seconds} s until the instance is gone"),
    events.GOODPUT: _words("{line}", "run", *PARTS),
    events.EXPORTED: _words("exported the model of epoch {epoch} (step {step}) to {file}"),
    events.PRUNED: _words("deleted {objects} objects"),
}
