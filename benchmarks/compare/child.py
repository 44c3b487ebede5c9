"""One measurement in a process of its own: `python -m compare.child JSON` prints it as JSON."""

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
"""Batches of a first training, which builds what the first batch builds, and gives the pace."""

SCALE_SAVES = 2


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
    """Saves with nothing beside them, and saves of a training that goes on.

    Args:
        quiet, busy: how many. One quiet one more comes first, uncounted.
        seconds: of training before each save of the second kind, and after it.
        ways: to S3, for a peer's saves in turn.
        server: the S3 server's process, if it runs here.
    """
    import keras

    import models
    from compare.method import Place
    from compare.methods import METHODS
    from compare.uploads import WAYS
    from compare.watch import Enough, Plan, Watch

    keras.utils.set_random_seed(0)
    of = State(**state)
    training = models.dense(of)
    found: dict[str, Any] = {
        "bytes": of.mib * 2**20,
        "cores": os.cpu_count(),
        "batch": pace(training),
    }
    to_s3 = tuple(WAYS[way]() for way in ways)
    plans = {"quiet": Plan(quiet + 1, 2)}
    if busy:
        calm, window = (max(2, round(s / found["batch"])) for s in seconds)
        plans["busy"] = Plan(busy, calm, window)
    for name, plan in plans.items():
        with tempfile.TemporaryDirectory() as folder:
            place = Place(Path(folder), f"{url}/{name}", to_s3)
            kept = METHODS[method]()
            watch = Watch(plan, *kept.watched(place), server)
            with suppress(Enough):
                kept.train(training, place, watch)
            found[name] = {
                "window": plan.window,
                "saved": [asdict(one) for one in watch.saved[1 if name == "quiet" else 0 :]],
                "calm": [asdict(one) for one in watch.calm],
            }
    return found


def pace(training: Any) -> float:
    """Seconds a batch of plain training."""
    import keras

    class Ends(keras.callbacks.Callback):
        times: list[float] = []  # noqa: RUF012

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            del batch, logs
            self.times.append(time.monotonic())

    model, data = training
    ends = Ends()
    model.fit(data, steps_per_epoch=WARM_UP + TIMED, verbose=0, callbacks=[ends])
    return (ends.times[-1] - ends.times[WARM_UP - 1]) / TIMED


def recovery(
    method: str, state: dict[str, Any], url: str, *, way: str, saves: int, began: float
) -> dict[str, Any]:
    """Seconds from the start of this process to the first batch that it has trained.

    Args:
        url: of the saves, of which the last is gone on from.
        began: when the process was started.
    """
    if method == "keepfit":  # as `keepfit run` does before it runs a script
        from keepfit.callbacks import session
        from keepfit.callbacks.settings import Settings

        session.current().start_prefetch(Settings.resolve(store=url, run="bench"))

    import keras

    import models
    from compare.method import Place
    from compare.methods import METHODS
    from compare.uploads import WAYS

    if method == "keepfit":
        import keepfit.callbacks.run  # noqa: F401
    if method == "OrbaxCheckpoint":
        import orbax.checkpoint  # noqa: F401
    imported = time.monotonic()
    from_s3 = () if method == "keepfit" else (WAYS[way](),)

    def done(_: int) -> None:
        ended = time.monotonic()
        print(json.dumps({"all": ended - began, "imports": imported - began}), flush=True)
        os._exit(0)

    def make() -> models.Training:
        keras.utils.set_random_seed(0)
        return models.dense(State(**state))

    with tempfile.TemporaryDirectory() as folder:
        METHODS[method]().resume(make, Place(Path(folder), url, from_s3), saves, done)
    raise AssertionError("no batch was trained")


def scale(state: dict[str, Any] | None, variables: int, url: str) -> dict[str, Any]:
    """Saves of a large state, or of a tiny one in so many variables, with nothing beside them."""
    import keras

    import models
    from compare.method import Place
    from compare.ours import Keepfit
    from compare.watch import Enough, Plan, Watch

    keras.utils.set_random_seed(0)
    training = models.dense(State(**state)) if state else models.many(variables)
    kept, place = Keepfit(), Place(Path(), url)
    watch = Watch(Plan(SCALE_SAVES + 1, 2), *kept.watched(place))
    with suppress(Enough):
        kept.train(training, place, watch)
    return {"saved": [asdict(one) for one in watch.saved[1:]]}


def exactness(method: str, kills: int) -> dict[str, Any]:
    """See compare/exactness.py."""
    from compare.exactness import killed

    return killed(method, kills)


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    known = {"saving": saving, "recovery": recovery, "scale": scale, "exactness": exactness}
    print(json.dumps(known[asked.pop("what")](**asked)))
