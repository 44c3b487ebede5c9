"""`--restarts N`: attempts on the same machine, under the rules that AWS Batch has for a job.

A small process that never imports TensorFlow starts the attempts as its children. An attempt is
started again when it was killed or preempted, never after an error of the script's own. N counts
all of them, whatever they have trained: it is the limit of what a user will spend unattended.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from keepfit.callbacks import events
from keepfit.callbacks.backoff import Backoff
from keepfit.callbacks.journal.terms import ProcessEnd, Reason
from keepfit.callbacks.logs.logger import get_logger
from keepfit.job.notices.signals import trapped_signals
from keepfit.job.process.children import JOB_CONTROL, Supervisor, exit_code

log = get_logger()

FIRST_DELAY: Final = 2.0
LONGEST_DELAY: Final = 60.0

STEADY_SECONDS: Final = 600.0
"""An attempt that has run so long did not fail at its start: the delays begin anew after it."""

_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True)
class Attempt:
    """An attempt, in its own process.

    Attributes:
        number: 1 for the first one.
        script_has_ended: the script came to its end in an earlier attempt, whose process was killed
            after it.
        previous_end: how the process of the attempt before this one has ended; None for the first.
    """

    number: int
    script_has_ended: bool
    _shared: mmap.mmap
    previous_end: ProcessEnd | None = None

    def report_end(self) -> None:
        """Tell the attempts after this one that the script has come to its end."""
        self._shared[0] = 1


def restart_reason(code: int, preempted_code: int) -> str | None:
    """Return why an attempt is followed by another one, or None if it is not.

    The rules are those of the job definition in infra/templates/compute.yaml; a lost process is to
    one machine what a lost machine, or an error of the agent there, is to AWS Batch.

    Args:
        code: how it has ended; the negative number of a signal that has killed it.
        preempted_code: the exit code for a preemption.
    """
    if code < 0:
        return f"the attempt was killed by {_signal_name(-code)}"
    if code == preempted_code:
        return f"the attempt was preempted, or the store did not answer (exit code {code})"
    return None


def process_end(code: int, started: datetime, ended: datetime) -> ProcessEnd:
    """Return what is known of the end of an attempt from outside of its process.

    An exit code alone does not tell why it has ended: the attempt's own journal does.

    Args:
        code: how it has ended; the negative number of a signal that has killed it.
        started, ended: in UTC.
    """
    if code < 0:
        return ProcessEnd(started, ended, Reason.KILLED, f"killed by {_signal_name(-code)}")
    return ProcessEnd(started, ended, None, f"exit code {code}")


def _signal_name(number: int) -> str:
    """Return the name of a signal; real-time signals have none of their own."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def supervise_attempts(limit: int, preempted_code: int, backoff: Backoff | None = None) -> Attempt:
    """Return in each attempt, which is a new child; this process ends with the last one's code.

    A SIGTERM, SIGINT or SIGHUP is passed on, and no further attempt begins after it.

    Args:
        limit: number of attempts after the first one, at most.
        preempted_code: the exit code for a preemption.
        backoff: the waiting times between attempts.
    """
    backoff = backoff or Backoff(FIRST_DELAY, LONGEST_DELAY)
    shared = mmap.mmap(-1, 1)
    stopping = {*trapped_signals()} - {signal.SIGUSR1}
    # Under nohup, SIGHUP stays ignored. PID 1 has no terminal that could stop it.
    ignored = {signal.SIGHUP} - stopping
    supervisor = Supervisor(ignored | (JOB_CONTROL if os.getpid() != 1 else set()))
    failed, number, parent = 0, 1, os.getpid()
    previous = None
    while True:
        started = datetime.now(UTC)
        child = supervisor.fork()
        if not child:
            _receive_end_of(parent)
            return Attempt(number, bool(shared[0]), shared, previous)
        began = time.monotonic()
        end = supervisor.forward_until_end(child)
        previous = process_end(end.code, started, datetime.now(UTC))
        failed = 1 if time.monotonic() - began >= STEADY_SECONDS else failed + 1
        reason = restart_reason(end.code, preempted_code)
        if reason is None or end.received & stopping:
            os._exit(exit_code(end.code))
        if number > limit:
            log.error(
                events.RESTARTS_ENDED,
                attempts=number,
                reason=reason,
                fix="the same command continues the run",
            )
            os._exit(exit_code(end.code))
        number += 1
        seconds = backoff.seconds(failed)
        log.warning(
            events.RESTARTED, attempt=number, of=limit + 1, reason=reason, seconds=round(seconds, 1)
        )
        if supervisor.wait(seconds, stopping):
            os._exit(preempted_code)


def _receive_end_of(parent: int) -> None:
    """Let the kernel send SIGTERM to this process when its supervisor is killed.

    The supervisor is the process that its user sees and stops, so the attempt must not go on.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it was killed before the call
            signal.raise_signal(signal.SIGTERM)
