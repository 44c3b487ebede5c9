"""Explain the end of an attempt, or of a job, in a person's words.

AWS Batch reports an exit code, a reason of the container, and a status reason. The texts are those
of AWS' documents and of what users of AWS Batch have published; docs/endings.md lists them with
what follows from each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Ending:
    """The end of an attempt, with the fields of AWS Batch.

    Attributes:
        code: the container's exit code; None if it has none, for example if the machine was lost.
        reason: the container's reason; empty if it has none.
        status: the attempt's status reason; empty if it has none.
    """

    code: int | None
    reason: str = ""
    status: str = ""


ORDINARY: Final = "Essential container in task exited"
"""The status reason of a container that has ended by itself."""

_PULL: Final = "CannotPullContainer"
_PULL_CAUSES: Final = {
    "no space left": "the machine's disk is full, so the image could not be pulled",
    "toomanyrequests": "the registry limits pulls, so the image could not be pulled",
    "manifest unknown": "there is no such image: push it, or name another one with --image",
    "not found": "there is no such image: push it, or name another one with --image",
    "pull access denied": "there is no such image, or no permission to pull it",
    "i/o timeout": "the registry was not reached: the subnets need a route to it",
    "Client.Timeout": "the registry was not reached: the subnets need a route to it",
}
"""Words by a part of the message of a pull that failed."""

_ERRORS: Final = {
    "OutOfMemory": "out of memory: submit with a larger --memory",
    _PULL: "the image could not be pulled",
    "CannotInspectContainer": "Docker did not answer, so the exit code is unknown",
    "CannotStartContainer": "the container could not be started",
    "CannotCreateContainer": "the container could not be created",
    "Cannot": "the machine's agent could not handle the container",
    "DockerTimeoutError": "Docker on the machine was too slow to start the container",
    "CgroupError": "the machine could not prepare the container's resources",
    "ResourceInitializationError": "a secret could not be read: check its ARN, the execution role "
    "and the subnets' route to it",
    "Host EC2": "the machine was taken back (Spot), or lost",
    "Task failed to start": "the container could not be started",
    "Job attempt duration exceeded timeout": "the time limit of the job's definition was reached",
    "Task stopped during instance draining": "the machine was drained",
    "MISCONFIGURATION": "no machine of the queue fits the job: request less",
}
"""Words by the beginning of a reason or a status reason; the first that fits counts."""

_CODES: Final = {
    1: "the script has failed, see `keepfit logs`",
    2: "a mistake in the command, see `keepfit logs`",
    74: "trained, but the result could not be stored, see `keepfit logs`",
    75: "preempted, or the store did not answer: to be continued",
    76: "another attempt owns the run",
    77: "cancelled",
    78: "refused, see `keepfit logs`",
    79: "the run has reached --max-hours or --max-cost: a larger limit continues it",
    126: "the image's command can't be executed",
    127: "the image has no such command",
    132: "the machine's processor lacks an instruction that the image needs",
    134: "a library has aborted the process, see `keepfit logs`",
    135: "a bus error: often /dev/shm or a disk is full",
    137: "killed, often because memory was short: submit with a larger --memory",
    139: "a library has crashed (segmentation fault), see `keepfit logs`",
    143: "ended by SIGTERM before keepfit could save",
}
"""Words by exit code: those of docs/exit-codes.md, and 128 plus the number of a signal."""


def explain(ending: Ending) -> str:
    """Return the ending in words, with AWS' own text if that says more; empty if all went well.

    Example:
        >>> explain(Ending(137, "OutOfMemoryError: killed"))
        'out of memory: submit with a larger --memory (OutOfMemoryError: killed)'
    """
    for text in (ending.reason, ending.status):
        if words := _words_of(text):
            return f"{words} ({text})"
    if ending.code is not None and (words := _CODES.get(ending.code)):
        return words
    if ending.code == 0:
        return ""
    if told := [text for text in (ending.reason, ending.status) if text and text != ORDINARY]:
        return "; ".join(told)
    if ending.code is None:
        return ending.status
    return f"the script has ended with exit code {ending.code}, see `keepfit logs`"


def _words_of(text: str) -> str | None:
    """Return the words for a reason that is known; None for any other text."""
    if text.startswith(_PULL):
        return _first(_PULL_CAUSES, lambda part: part in text) or _ERRORS[_PULL]
    return _first(_ERRORS, text.startswith)


def _first(words: Mapping[str, str], fits: Callable[[str], bool]) -> str | None:
    return next((text for part, text in words.items() if fits(part)), None)
