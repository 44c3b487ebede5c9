"""From a notice, at a random moment within a batch, to the checkpoint that holds that batch."""

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
"""Before the notice, to time them; the first are left out, which build the model."""

WARM_UP = 5


@dataclass(frozen=True)
class Round:
    """Seconds: of a batch (the slowest), of the save, and from the notice to its commit."""

    batch: float
    save: float
    committed: float

    @property
    def over(self) -> float:
        """More than what can't be avoided: the batch under way, and the save itself."""
        return self.committed - self.batch - self.save


def notice(store: Annotated[str, typer.Argument()] = "", rounds: int = 5) -> None:
    """Measure it, each time in a process of its own.

    Args:
        store: s3://BUCKET/PREFIX or file://PATH; what is written to S3 stays there.
        rounds: how often.
    """
    with tempfile.TemporaryDirectory() as folder:
        uri = f"{store or f'file://{folder}'}/bench-{uuid.uuid4().hex}"
        found = [measure(uri, seed) for seed in range(rounds)]
    console = Console(width=max(Console().width, 100))
    console.print(table(found))
    worst = max(one.over for one in found)
    console.print(f"at most the slowest batch, the save, and {max(0.0, worst):.2f} s")


def table(found: list[Round]) -> Table:
    """The medians and the worst of all rounds."""
    shown = Table(title=f"288 MiB, {len(found)} rounds, seconds")
    for name in ("", "median", "worst"):
        shown.add_column(name, justify="left" if not name else "right")
    for name, seconds in (
        ("a batch, the slowest of each round", [one.batch for one in found]),
        ("the save", [one.save for one in found]),
        ("from notice to commit", [one.committed for one in found]),
    ):
        shown.add_row(name, f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}")
    return shown


def measure(uri: str, seed: int) -> Round:
    """One round in a new process."""
    return Round(**processes.measure("notice", uri, str(seed)))


def child(uri: str, seed: int) -> Round:
    """Train, be told to leave at a random moment, and leave."""
    import threading

    import models
    from keepfit import Resumable
    from keepfit.callbacks import events, session
    from keepfit.callbacks.errors import Preempted
    from keepfit.callbacks.session import Notice
    from stopwatch import Logs, Stopwatch, collect_events, now

    given: list[float] = []

    class Timed(Stopwatch):
        def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
            super().on_train_batch_begin(batch, logs)
            if len(self.batches) == BATCHES:
                usual = statistics.median(b.training for b in self.batches[WARM_UP:])
                moment = random.Random(seed).uniform(0.0, usual)
                threading.Timer(moment, give).start()

    def give() -> None:
        given.append(now())
        here.give_notice(Notice("spot", time.monotonic() + 120))

    log = collect_events()
    model, batches = models.dense()
    with session.open_session() as here:
        timed = Timed(Resumable(store=uri, run=f"run{seed}", save_every="1h"))
        try:
            model.fit(batches, steps_per_epoch=10**6, verbose=0, callbacks=[timed])
        except Preempted as left:
            if not left.saved:
                sys.exit(f"the save has failed: {log}")
    saved = [event for event in log if event["event"] == events.SAVED]
    slowest = max(b.training for b in timed.batches[WARM_UP:])
    return Round(slowest, saved[-1]["seconds"], saved[-1]["time"] - given[0])


if __name__ == "__main__":
    print(json.dumps(asdict(child(sys.argv[1], int(sys.argv[2])))))
