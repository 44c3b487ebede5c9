"""Request checkpoints at some batches of a training, and measure the saves and the batches."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

now = time.monotonic

Durable = Future[float]
"""The time at which a checkpoint was durable in S3, as `now` counts."""


class Enough(Exception):
    """Raised within a training when everything has been measured."""


@dataclass(frozen=True)
class Plan:
    """The sequence of batches: calm ones, a save, the batches after it, and so on.

    Attributes:
        saves: number of saves.
        calm: number of batches before each save, and after the last window.
        window: number of batches after each save. None: training pauses until the save is durable,
            so that nothing else takes CPU time.
    """

    saves: int
    calm: int
    window: int | None = None


@dataclass
class Saved:
    """One checkpoint.

    Attributes:
        way: name of the way to S3.
        stall: seconds for which the save blocked the training thread.
        durable: seconds from the request until the checkpoint was durable in S3.
        cpu: CPU seconds of this process and its child processes, if training paused.
        server: CPU seconds of the S3 server, if it runs on this machine: until the checkpoint was
            durable, or within the window, if there is one.
        sent: bytes sent over the network until then, if training paused.
        busy: seconds per batch in the window, including the stall and the wait until the checkpoint
            was durable.
        peak: peak memory of the process until the checkpoint was durable, in bytes.
    """

    way: str
    stall: float
    durable: float = 0.0
    cpu: float = 0.0
    server: float | None = None
    sent: int = 0
    busy: float = 0.0
    peak: int = 0


@dataclass
class Calm:
    """Batches without a checkpoint: seconds per batch, and peak memory in bytes."""

    batch: float
    peak: int


class Watch:
    """The measurement of one training; called at the end of each batch.

    Args:
        plan: the sequence of batches.
        durable: is called with the save's number after it has been requested; returns a future of
            the time at which it is durable.
        way: returns the name of the way to S3 of the save of that number.
        server: process id of the S3 server, if it runs on this machine.
    """

    def __init__(
        self,
        plan: Plan,
        durable: Callable[[int], Durable],
        way: Callable[[int], str],
        server: int | None = None,
    ) -> None:
        self.plan = plan
        self.saved: list[Saved] = []
        self.calm: list[Calm] = []
        self._durable = durable
        self._way = way
        self._server = server
        self._pending: Durable | None = None
        self._batches = 0
        self._since = self._requested_at = 0.0
        self._server_before: float | None = None
        self._hooks = 0.0
        reset_peak()

    def batch_ends(self, save: Callable[[], Any], otherwise: Callable[[], Any] = int) -> None:
        """Call `save` if a checkpoint is due, else `otherwise`.

        Args:
            save: may return False if no save was possible; it is called again at the next batch.
            otherwise: the work of the method at a batch without a save.

        Raises:
            Enough: all checkpoints have been made.
        """
        if not self._since:  # the first batch is not measured: it began before the first call
            otherwise()
            self._since = now()
            return
        self._batches += 1
        if self._pending:
            self._in_window(otherwise)
        elif self._batches >= self.plan.calm:
            self._end_of_calm(save)
        else:
            before = now()
            otherwise()
            self._hooks += now() - before

    def _end_of_calm(self, save: Callable[[], Any]) -> None:
        training = now() - self._since - self._hooks
        calm = Calm(training / self._batches, peak())
        if len(self.saved) == self.plan.saves:
            self.calm.append(calm)
            raise Enough
        reset_peak()
        cpu, sent, server = cpu_seconds(), bytes_sent(), cpu_of(self._server)
        requested_at = now()
        accepted = save()
        stall = now() - requested_at
        if accepted is False:
            self._hooks += stall
            return
        number = len(self.saved)
        self.calm.append(calm)
        self.saved.append(Saved(self._way(number), stall=stall))
        self._requested_at, self._server_before = requested_at, server
        self._pending = self._durable(number)
        self._batches = 0
        if self.plan.window is None:
            self._await()
            self.saved[-1].cpu = cpu_seconds() - cpu
            self.saved[-1].sent = bytes_sent() - sent
            self._end_of_window()

    def _in_window(self, otherwise: Callable[[], Any]) -> None:
        otherwise()
        if self._batches == self.plan.window:
            self._await()
            self.saved[-1].busy = (now() - self._requested_at) / self._batches
            self._end_of_window()

    def _await(self) -> None:
        if self._pending:
            self.saved[-1].durable = self._pending.result() - self._requested_at
            self.saved[-1].peak = peak()
        self._pending = None

    def _end_of_window(self) -> None:
        if self._server_before is not None:
            self.saved[-1].server = (cpu_of(self._server) or 0.0) - self._server_before
        reset_peak()
        self._batches, self._hooks, self._since = 0, 0.0, now()


def cpu_seconds() -> float:
    """Return the CPU seconds of this process, and of its children that have ended."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, kinds))


def cpu_of(pid: int | None) -> float | None:
    """Return the CPU seconds of another process; None without a process id."""
    if pid is None:
        return None
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def bytes_sent() -> int:
    """Return the bytes sent over all network interfaces; nothing else may use them meanwhile."""
    lines = Path("/proc/net/dev").read_text().splitlines()[2:]
    return sum(int(line.split(":")[1].split()[8]) for line in lines)


def peak() -> int:
    """Return the peak memory of this process since `reset_peak`, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (high_water,) = (line for line in lines if line.startswith("VmHWM"))
    return int(high_water.split()[1]) * 1024


def reset_peak() -> None:
    """Reset the peak memory to the current memory (man 5 proc, clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")
