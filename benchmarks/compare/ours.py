"""keepfit, as its README shows it."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import structlog

from compare.hooks import After, Watched
from compare.method import ENDLESS, Done, Job, OnBatch, Place
from compare.watch import Durable, Watch, now
from keepfit import Resumable
from keepfit.callbacks import events, session
from models import Training

NEVER = "1000000000 batches"


class Keepfit:
    """Resumable. What asks it for a save here is what SIGUSR1 asks with in a job."""

    def watched(self, place: Place) -> tuple[Callable[[int], Durable], Callable[[int], str]]:
        del place
        waiting: list[Durable] = []

        def collect(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
            if event["event"] == events.SAVED:
                waiting.pop(0).set_result(now())
            elif event["event"] == events.SAVE_FAILED:
                waiting.pop(0).set_exception(RuntimeError(event["reason"]))
            raise structlog.DropEvent

        structlog.configure(processors=[collect])
        # The writer may be faster than the watch, so the next save is waited for beforehand.
        coming: list[Durable] = [Future()]
        waiting.append(coming[0])

        def durable(_: int) -> Durable:
            this = coming.pop()
            coming.append(Future())
            waiting.append(coming[0])
            return this

        return durable, lambda _: "keepfit"

    def train(self, training: Training, place: Place, watch: Watch) -> None:
        model, data = training
        kept = Resumable(store=place.url, run="bench", save_every=NEVER, keep=1)
        watched = Watched(kept, watch, session.current())
        model.fit(data, steps_per_epoch=ENDLESS, verbose=0, callbacks=[watched])

    def resume(self, make: Callable[[], Training], place: Place, saves: int, then: OnBatch) -> None:
        del saves
        model, data = make()
        kept = Resumable([After(then)], store=place.url, run="bench", save_every=NEVER)
        model.fit(data, steps_per_epoch=ENDLESS, verbose=0, callbacks=[kept])

    def complete(self, make: Callable[[], Training], folder: Path, job: Job, then: OnBatch) -> Done:
        model, data = make()
        kept = Resumable(
            [After(then, job.steps)],
            store=f"file://{folder}",
            run="bench",
            save_every=f"{job.every} batches",
        )
        done = model.fit(
            data, epochs=job.epochs, steps_per_epoch=job.steps, verbose=0, callbacks=[kept]
        )
        return model, done.history
