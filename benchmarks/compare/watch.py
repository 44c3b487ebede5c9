"""Follows the batches of a training, has checkpoints made at some of them, and measures both."""

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
"""When a checkpoint was safe in S3, as `now` counts."""


class Enough(Exception):
    """Raised within a training, when all has been measured."""


@dataclass(frozen=True)
class Plan:
    """Calm batches, a save, the batches after it; and again.

    Attributes:
        calm: batches before each save, and after the last window.
        window: batches after each save. None: training stands still until it is durable, so that
            nothing else takes CPU time.
    """

    saves: int
    calm: int
    window: int | None = None


@dataclass
class Saved:
    """One checkpoint.

    Attributes:
        way: how it went to S3.
        stall: seconds that the training thread lost at once.
        durable: seconds from the request until it was safe in S3.
        cpu: seconds of this process and of those that it started; if training stood still.
        server: CPU seconds of the S3 server, if it runs here: until it was durable, or within the
            window, if there is one.
        sent: bytes that went over the network meanwhile.
        busy: seconds a batch in the window after it, stall included, and until it was durable.
        peak: the process's peak memory until then, in bytes.
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
    """Batches without a checkpoint: seconds a batch, and peak memory in bytes."""

    batch: float
    peak: int


class Watch:
    """Called at the end of each batch of a training.

    Args:
        durable: is called after a save has been asked for; says when it is durable.
        server: the S3 server's process, if it runs here.
        way: how the save of that number goes to S3.
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
        self._since = self._asked = 0.0
        self._server_before: float | None = None
        self._hooks = 0.0
        reset_peak()

    def batch_ends(self, save: Callable[[], Any], otherwise: Callable[[], Any] = int) -> None:
        """Call `save` if a checkpoint is due, else `otherwise`, what the method does at any batch.

        Args:
            save: may return False: it could not, and is called again at the next batch.

        Raises:
            Enough: all checkpoints have been made.
        """
        if not self._since:  # the first batch is not measured: it was under way
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
        asked = now()
        taken = save()
        stall = now() - asked
        if taken is False:
            self._hooks += stall
            return
        number = len(self.saved)
        self.calm.append(calm)
        self.saved.append(Saved(self._way(number), stall=stall))
        self._asked, self._server_before = asked, server
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
            self.saved[-1].busy = (now() - self._asked) / self._batches
            self._end_of_window()

    def _await(self) -> None:
        if self._pending:
            self.saved[-1].durable = self._pending.result() - self._asked
            self.saved[-1].peak = peak()
        self._pending = None

    def _end_of_window(self) -> None:
        if self._server_before is not None:
            self.saved[-1].server = (cpu_of(self._server) or 0.0) - self._server_before
        reset_peak()
        self._batches, self._hooks, self._since = 0, 0.0, now()


def cpu_seconds() -> float:
    """Of this process, and of its children that have ended."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(found.ru_utime + found.ru_stime for found in map(resource.getrusage, kinds))


def cpu_of(pid: int | None) -> float | None:
    """Of another process."""
    if pid is None:
        return None
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def bytes_sent() -> int:
    """Over all network interfaces of this machine; so nothing else may use them meanwhile."""
    lines = Path("/proc/net/dev").read_text().splitlines()[2:]
    return sum(int(line.split(":")[1].split()[8]) for line in lines)


def peak() -> int:
    """Bytes of memory that this process has had at most since `reset_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (found,) = (line for line in lines if line.startswith("VmHWM"))
    return int(found.split()[1]) * 1024


def reset_peak() -> None:
    """Begin again with what it has now (man 5 proc, clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")
