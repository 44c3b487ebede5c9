"""keepfit, used as in its README."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import structlog

from compare.hooks import After, Watched
from compare.method import ENDLESS, Job, OnBatch, Place, Result
from compare.watch import Durable, Watch, now
from keepfit import Resumable
from keepfit.callbacks import events
from keepfit.callbacks.engine import preemption
from keepfit.callbacks.logs.logger import replace_processors
from models import Training

NEVER = "1000000000 batches"


class Keepfit:
    """Resumable. Saves are requested in the same way as by SIGUSR1 in a job."""

    def watched(self, place: Place) -> tuple[Callable[[int], Durable], Callable[[int], str]]:
        del place
        waiting: list[Durable] = []

        def collect(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
            if event["event"] == events.SAVED:
                waiting.pop(0).set_result(now())
            elif event["event"] == events.SAVE_FAILED:
                waiting.pop(0).set_exception(RuntimeError(event["reason"]))
            raise structlog.DropEvent

        replace_processors([collect])
        # The writer may be faster than the watch, so the future of the next save exists already.
        upcoming: list[Durable] = [Future()]
        waiting.append(upcoming[0])

        def durable(_: int) -> Durable:
            current = upcoming.pop()
            upcoming.append(Future())
            waiting.append(upcoming[0])
            return current

        return durable, lambda _: "keepfit"

    def train(self, training: Training, place: Place, watch: Watch) -> None:
        model, data = training
        resumable = Resumable(store=place.url, run="bench", save_every=NEVER, keep=1)
        watched = Watched(resumable, watch, preemption.current())
        model.fit(data, steps_per_epoch=ENDLESS, verbose=0, callbacks=[watched])

    def resume(
        self, make_training: Callable[[], Training], place: Place, saves: int, on_batch: OnBatch
    ) -> None:
        del saves
        model, data = make_training()
        resumable = Resumable([After(on_batch)], store=place.url, run="bench", save_every=NEVER)
        model.fit(data, steps_per_epoch=ENDLESS, verbose=0, callbacks=[resumable])

    def complete(
        self, make_training: Callable[[], Training], folder: Path, job: Job, on_batch: OnBatch
    ) -> Result:
        model, data = make_training()
        resumable = Resumable(
            [After(on_batch, job.steps)],
            store=f"file://{folder}",
            run="bench",
            save_every=f"{job.every} batches",
        )
        history = model.fit(
            data, epochs=job.epochs, steps_per_epoch=job.steps, verbose=0, callbacks=[resumable]
        )
        return model, history.history
