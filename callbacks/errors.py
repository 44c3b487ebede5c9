"""What can end an attempt, each with its exit code.

They derive from SystemExit: a script's own `except Exception` can't swallow them, its `finally`
blocks still run, and under plain `python train.py` the exit code is right without a runner.
The reason has been logged, in one line, before any of them is raised; a preemption is logged by
the runner.
"""

from __future__ import annotations

from typing import Final

EXIT_UNSAVED: Final = 74
EXIT_PREEMPTED: Final = 75
EXIT_FENCED: Final = 76
EXIT_CANCELLED: Final = 77
EXIT_REFUSED: Final = 78


class AttemptEnded(SystemExit):
    """The attempt ends here, on purpose."""

    code: int


class Preempted(AttemptEnded):
    """The machine is about to go, or a person asked; what could be saved is saved.

    Attributes:
        step: batches trained in the run; None outside training.
        saved: whether the last of them is in a checkpoint; if not, an older one is in force.
    """

    def __init__(self, step: int | None = None, *, saved: bool = True) -> None:
        super().__init__(EXIT_PREEMPTED)
        self.step = step
        self.saved = saved


class StoreUnreachable(AttemptEnded):
    """The store did not answer when the run was to be taken up; a later attempt may be luckier."""

    def __init__(self) -> None:
        super().__init__(EXIT_PREEMPTED)


class Fenced(AttemptEnded):
    """A newer attempt owns the run."""

    def __init__(self) -> None:
        super().__init__(EXIT_FENCED)


class Cancelled(AttemptEnded):
    """Somebody has ended the job that this attempt is of."""

    def __init__(self) -> None:
        super().__init__(EXIT_CANCELLED)


class Refused(AttemptEnded):
    """The configuration, the store or the checkpoint does not fit; a retry would not help."""

    def __init__(self) -> None:
        super().__init__(EXIT_REFUSED)


class ConfigurationError(ValueError):
    """A setting that can't be used: its message names the setting, the value and the way out."""
