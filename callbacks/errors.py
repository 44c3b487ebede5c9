"""The exceptions that end an attempt, each with its exit code.

They derive from SystemExit: a script's own `except Exception` can't swallow them, its `finally`
blocks still run, and under plain `python train.py` the exit code is right without a runner.
The reason is logged, in one line, before any of them is raised; a preemption is logged by the
runner.
"""

from __future__ import annotations

from typing import Final

EXIT_UNSAVED: Final = 74
EXIT_PREEMPTED: Final = 75
EXIT_FENCED: Final = 76
EXIT_CANCELLED: Final = 77
EXIT_REFUSED: Final = 78
EXIT_LIMIT: Final = 79


class AttemptEnded(SystemExit):
    """The base class: the attempt ends on purpose."""

    code: int


class Preempted(AttemptEnded):
    """The machine is about to be taken away, or a user asked for a stop; any possible save is made.

    Attributes:
        step: batches trained in the run; None outside training.
        saved: whether the last of these batches is in the committed checkpoint; if not, the
            committed checkpoint is an older one.
    """

    def __init__(self, step: int | None = None, *, saved: bool = True) -> None:
        super().__init__(EXIT_PREEMPTED)
        self.step = step
        self.saved = saved


class LimitReached(Preempted):
    """The run has used the hours or the dollars that it may; any possible save is made.

    A larger limit continues it. No attempt is made before that: the exit code is never retried.
    """

    def __init__(self, step: int | None = None, *, saved: bool = True) -> None:
        super().__init__(step, saved=saved)
        self.code = EXIT_LIMIT


class StoreUnreachable(AttemptEnded):
    """The store did not answer to claim or resume the run; a later attempt may succeed."""

    def __init__(self) -> None:
        super().__init__(EXIT_PREEMPTED)


class Fenced(AttemptEnded):
    """A newer attempt owns the run."""

    def __init__(self) -> None:
        super().__init__(EXIT_FENCED)


class Cancelled(AttemptEnded):
    """The job to which this attempt belongs has been cancelled."""

    def __init__(self) -> None:
        super().__init__(EXIT_CANCELLED)


class Refused(AttemptEnded):
    """The configuration, the store or the checkpoint does not fit; a retry would not help."""

    def __init__(self) -> None:
        super().__init__(EXIT_REFUSED)


class ConfigurationError(ValueError):
    """A setting can't be used; the message names the setting, its value and the fix."""
