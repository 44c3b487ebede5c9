"""Make one measurement in a process of its own: `python -m compare.child JSON` prints JSON."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from states import State

WARM_UP, TIMED = 3, 6
"""Batches of a first training, which builds the model and measures the seconds per batch."""

SCALE_SAVES = 2
"""Saves that are counted in a measurement of scale."""


def saving(
    method: str,
    state: dict[str, Any],
    url: str,
    *,
    quiet: int,
    busy: int,
    seconds: list[float],
    ways: list[str],
    server: int | None,
) -> dict[str, Any]:
    """Measure saves during which training pauses, and saves during which training continues.

    Args:
        method: name in compare/methods.py.
        state: the fields of a State.
        url: S3 URL below which the saves are stored.
        quiet, busy: number of saves of each kind. One more quiet save comes first, uncounted.
        seconds: seconds of training before each busy save, and after it.
        ways: names of the ways to S3, for a peer's saves in turn.
        server: process id of the S3 server, if it runs on this machine.
    """
    import keras

    import models
    from compare.method import Place
    from compare.methods import METHODS
    from compare.uploads import WAYS
    from compare.watch import Enough, Plan, Watch

    keras.utils.set_random_seed(0)
    size = State(**state)
    training = models.dense(size)
    record: dict[str, Any] = {
        "bytes": size.mib * 2**20,
        "cores": os.cpu_count(),
        "batch": seconds_per_batch(training),
    }
    to_s3 = tuple(WAYS[way]() for way in ways)
    plans = {"quiet": Plan(quiet + 1, 2)}
    if busy:
        calm, window = (max(2, round(s / record["batch"])) for s in seconds)
        plans["busy"] = Plan(busy, calm, window)
    for name, plan in plans.items():
        with tempfile.TemporaryDirectory() as folder:
            place = Place(Path(folder), f"{url}/{name}", to_s3)
            measured = METHODS[method]()
            watch = Watch(plan, *measured.watched(place), server)
            with suppress(Enough):
                measured.train(training, place, watch)
            record[name] = {
                "window": plan.window,
                "saved": [asdict(save) for save in watch.saved[1 if name == "quiet" else 0 :]],
                "calm": [asdict(calm) for calm in watch.calm],
            }
    return record


def seconds_per_batch(training: Any) -> float:
    """Return the seconds per batch of training without saves."""
    import keras

    class BatchTimes(keras.callbacks.Callback):
        times: list[float] = []  # noqa: RUF012

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            del batch, logs
            self.times.append(time.monotonic())

    model, data = training
    batches = BatchTimes()
    model.fit(data, steps_per_epoch=WARM_UP + TIMED, verbose=0, callbacks=[batches])
    return (batches.times[-1] - batches.times[WARM_UP - 1]) / TIMED


def recovery(
    method: str, state: dict[str, Any], url: str, *, way: str, saves: int, began: float
) -> dict[str, Any]:
    """Measure the seconds from the start of this process to the end of its first batch.

    Args:
        method: name in compare/methods.py.
        state: the fields of a State.
        url: S3 URL of the saves; the last one is resumed from.
        way: name of the way from S3, for a peer.
        saves: number of saves at `url`.
        began: when the process was started, as time.monotonic() counts.
    """
    if method == "keepfit":  # as `keepfit run` does before it runs a script
        # The process that saved had other arguments, which would be another training.
        os.environ["KEEPFIT_RESUME"] = "1"
        from keepfit.callbacks.engine import session
        from keepfit.callbacks.settings import Settings

        session.current().start_prefetch(Settings.resolve(store=url, run="bench"))

    import keras

    import models
    from compare.method import Place
    from compare.methods import METHODS
    from compare.uploads import WAYS

    if method == "keepfit":
        import keepfit.callbacks.engine.run  # noqa: F401
    if method == "OrbaxCheckpoint":
        import orbax.checkpoint  # noqa: F401
    imported = time.monotonic()
    from_s3 = () if method == "keepfit" else (WAYS[way](),)

    def report_and_exit(_: int) -> None:
        ended = time.monotonic()
        print(json.dumps({"all": ended - began, "imports": imported - began}), flush=True)
        os._exit(0)

    def make_training() -> models.Training:
        keras.utils.set_random_seed(0)
        return models.dense(State(**state))

    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), url, from_s3)
        METHODS[method]().resume(make_training, place, saves, report_and_exit)
    raise AssertionError("no batch was trained")


def scale(state: dict[str, Any] | None, variables: int, url: str) -> dict[str, Any]:
    """Measure keepfit's saves of a large state, or of a tiny one with `variables` variables.

    Training pauses during each save.

    Args:
        state: the fields of a State; None for the tiny model.
        variables: number of variables of the tiny model.
        url: S3 URL of the run.
    """
    import keras

    import models
    from compare.method import Place
    from compare.ours import Keepfit
    from compare.watch import Enough, Plan, Watch

    keras.utils.set_random_seed(0)
    training = models.dense(State(**state)) if state else models.many(variables)
    measured, place = Keepfit(), Place(Path(), url)
    watch = Watch(Plan(SCALE_SAVES + 1, 2), *measured.watched(place))
    with suppress(Enough):
        measured.train(training, place, watch)
    return {"saved": [asdict(save) for save in watch.saved[1:]]}


def exactness(method: str, kills: int) -> dict[str, Any]:
    """Compare a killed job with an uninterrupted one; see compare/exactness.py."""
    from compare.exactness import compare_killed_job

    return compare_killed_job(method, kills)


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    measurements = {"saving": saving, "recovery": recovery, "scale": scale, "exactness": exactness}
    print(json.dumps(measurements[arguments.pop("what")](**arguments)))
