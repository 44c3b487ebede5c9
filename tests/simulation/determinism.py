"""Make the real code deterministic: replace its threads, its clock and its random names.

No store call is left out or reordered. Objects of one commit, which product code uploads on several
threads, are written in one fixed order: their keys are new, distinct, and named by nothing yet, so
their order changes nothing that another actor could see but the size of a listing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any, Self, TypeVar

import pytest

from keepfit.callbacks.checkpoint.commit import attempt, claim, object_writer
from keepfit.callbacks.checkpoint.format import shards
from keepfit.callbacks.checkpoint.read import parallel
from keepfit.callbacks.engine import fresh_start
from keepfit.job.commands import stores
from tests.simulation.actor import Client

T = TypeVar("T")

SHARED_SIZE = 32
"""Bytes from which checkpoints share a shard here, in place of a MiB: small objects suffice."""


class SynchronousPool:
    """Takes the place of the pools of threads: a task is done when it is submitted."""

    def __init__(self, *_: Any) -> None:
        pass

    def submit(self, task: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(task())
        except BaseException as error:  # noqa: BLE001 # the caller of Future.result gets it
            future.set_exception(error)
        return future

    def map(self, task: Callable[[Any], T], items: Iterable[Any]) -> Iterator[T]:
        return map(task, items)

    def shutdown(self, **_: Any) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@dataclass
class Process:
    """The process whose code is being run: its store, and its names and times.

    Attributes:
        name: a name that is unique among the actors.
        number: a number that is unique among the actors.
    """

    name: str = ""
    number: int = 0
    client: Client | None = None
    drawn: int = field(default=0, init=False)

    def begin(self, name: str, number: int, client: Client) -> None:
        """Begin the run of an actor's program anew."""
        self.name, self.number, self.client, self.drawn = name, number, client, 0

    def uuid4(self) -> SimpleNamespace:
        """Return a name that no other process draws, and this one in each of its runs."""
        self.drawn += 1
        return SimpleNamespace(hex=f"{self.name}-{self.drawn}")

    def now(self, _: object = None) -> datetime:
        """Return the time, which is another one in each process: so no two move to one name."""
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.number)


def standing_clock() -> float:
    """Return the same time at each call: durations are in HEAD, and decide nothing here."""
    return 0.0


def no_wait(_: float) -> None:
    """Take the place of sleep, which gives the processor away even for 0 s."""


@contextmanager
def deterministic() -> Iterator[Process]:
    """Make the code deterministic within the block; yield the process to set before each run."""
    process = Process()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claim, "uuid", process)
        patch.setattr(claim, "Attempt", partial(attempt.Attempt, clock=standing_clock))
        patch.setattr(claim.claim_run.retry, "sleep", no_wait)
        patch.setattr(object_writer, "datetime", process)
        patch.setattr(object_writer, "DaemonExecutor", SynchronousPool)
        patch.setattr(parallel, "DaemonExecutor", SynchronousPool)
        patch.setattr(shards, "MIN_SHARED_SIZE", SHARED_SIZE)
        patch.setattr(fresh_start, "datetime", process)
        patch.setattr(stores, "open_runs", lambda _: process.client)
        yield process
