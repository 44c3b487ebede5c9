"""Measure the time from a notice, at a random moment within a batch, to the checkpoint of it."""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
import time
import uuid
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

import processes

BATCHES = 20
"""Batches before the notice, which are timed."""

WARM_UP = 5
"""The first of these batches, which are not counted: they build the model."""


@dataclass(frozen=True)
class Round:
    """The seconds of the slowest batch, of the save, and from the notice to the commit."""

    batch: float
    save: float
    committed: float

    @property
    def excess(self) -> float:
        """Seconds beyond those that can't be avoided: the current batch, and the save itself."""
        return self.committed - self.batch - self.save


def notice(store: Annotated[str, typer.Argument()] = "", rounds: int = 5) -> None:
    """Measure how soon after a notice a checkpoint is committed, each time in a new process.

    Args:
        store: s3://BUCKET/PREFIX or file://PATH; objects written to S3 are not deleted.
        rounds: number of measurements.
    """
    with tempfile.TemporaryDirectory() as folder:
        uri = f"{store or f'file://{folder}'}/bench-{uuid.uuid4().hex}"
        measured = [measure(uri, seed) for seed in range(rounds)]
    console = Console(width=max(Console().width, 100))
    console.print(table(measured))
    worst = max(each.excess for each in measured)
    console.print(f"at most the slowest batch, the save, and {max(0.0, worst):.2f} s")


def table(rounds: list[Round]) -> Table:
    """Return a table of the median and the worst of all rounds."""
    result = Table(title=f"288 MiB, {len(rounds)} rounds, seconds")
    for name in ("", "median", "worst"):
        result.add_column(name, justify="left" if not name else "right")
    for name, seconds in (
        ("slowest batch of each round", [each.batch for each in rounds]),
        ("save", [each.save for each in rounds]),
        ("from notice to commit", [each.committed for each in rounds]),
    ):
        result.add_row(name, f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}")
    return result


def measure(uri: str, seed: int) -> Round:
    """Measure one round in a new process."""
    return Round(**processes.measure("notice", uri, str(seed)))


def child(uri: str, seed: int) -> Round:
    """Train, get a notice at a random moment, and exit."""
    import threading

    import models
    from keepfit import Resumable
    from keepfit.callbacks import events
    from keepfit.callbacks.engine import session
    from keepfit.callbacks.engine.preemption import Notice
    from keepfit.callbacks.errors import Preempted
    from stopwatch import Logs, Stopwatch, collect_events, now

    notice_times: list[float] = []

    class Timed(Stopwatch):
        def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
            super().on_train_batch_begin(batch, logs)
            if len(self.batches) == BATCHES:
                usual = statistics.median(b.training for b in self.batches[WARM_UP:])
                moment = random.Random(seed).uniform(0.0, usual)
                threading.Timer(moment, give).start()

    def give() -> None:
        notice_times.append(now())
        current.preemption.give_notice(Notice("spot", time.monotonic() + 120))

    log = collect_events()
    model, batches = models.dense()
    with session.open_session() as current:
        timed = Timed(Resumable(store=uri, run=f"run{seed}", save_every="1h"))
        try:
            model.fit(batches, steps_per_epoch=10**6, verbose=0, callbacks=[timed])
        except Preempted as preempted:
            if not preempted.saved:
                sys.exit(f"the save failed: {log}")
    saved = [event for event in log if event["event"] == events.SAVED]
    slowest = max(b.training for b in timed.batches[WARM_UP:])
    return Round(slowest, saved[-1]["seconds"], saved[-1]["time"] - notice_times[0])


if __name__ == "__main__":
    print(json.dumps(asdict(child(sys.argv[1], int(sys.argv[2])))))
