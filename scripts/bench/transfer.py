"""Times keepfit's way to S3 and back beside boto3's own, in turn, on the same server."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table


def main(bucket: str, mib: int = 1024, rounds: int = 3, seconds: int = 95) -> None:
    """Upload, download, a second checkpoint of a model that is 90 percent frozen, and training.

    Args:
        bucket: s3://BUCKET, which must exist; what is written stays there.
        mib: the model's variables, in MiB.
        rounds: how often each is measured, in turn.
        seconds: of each training, with and without a save every 30 s; 0 leaves it out.
    """
    prefix = f"{bucket}/bench-{uuid.uuid4().hex}"
    found: dict[str, list[Any]] = {"keepfit": [], "boto3": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(rounds):
            for kind in ("keepfit", "boto3") if turn % 2 == 0 else ("boto3", "keepfit"):
                found[kind].append(measure(kind, f"{prefix}/{turn}", mib, folder))
    console = Console(width=max(Console().width, 100))
    console.print(comparison(found, mib))
    frozen = [run["frozen"] for run in found["keepfit"]]
    console.print(f"second checkpoint, 90 % frozen: sends {max(frozen):.3f} of the bytes (≤ 0.11)")
    if seconds:
        pace: dict[str, list[float]] = {"alone": [], "saving": []}
        for turn in range(rounds):
            for kind in ("alone", "saving") if turn % 2 == 0 else ("saving", "alone"):
                pace[kind].append(measure(kind, f"{prefix}/t{turn}", seconds, "")["pace"])
        ratio = statistics.median(pace["saving"]) / statistics.median(pace["alone"])
        console.print(
            f"batches a second, 288 MiB saved every 30 s: {ratio:.3f} of without (≥ 0.95)"
        )
        console.print(f"  {pace}")


def comparison(found: Mapping[str, list[Any]], mib: int) -> Table:
    """Each figure of keepfit beside boto3's, and their ratio."""
    table = Table(title=f"{mib} MiB, medians of {len(found['boto3'])} rounds")
    for name in ("", "keepfit", "boto3", "ratio", "goal"):
        table.add_column(name, justify="left" if name in ("", "goal") else "right")
    for what in ("upload", "download"):
        for unit, better in (("seconds", "speed"), ("cpu", "CPU")):
            ours, theirs = (
                statistics.median(run[what][unit] for run in found[kind])
                for kind in ("keepfit", "boto3")
            )
            ratio = theirs / ours if better == "speed" else ours / theirs
            goal = "≥ 1.0" if better == "speed" else "≤ 1.0"
            table.add_row(
                f"{what}, {'s' if unit == 'seconds' else 'CPU s'}",
                f"{ours:.2f}",
                f"{theirs:.2f}",
                f"{ratio:.2f}",
                goal,
            )
    return table


def measure(kind: str, uri: str, number: int, folder: str) -> Any:
    """One round in a process of its own."""
    command = [sys.executable, __file__, "child", kind, uri, str(number), folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stderr}\nscripts/bench/s3: {kind} failed")
    return json.loads(done.stdout.splitlines()[-1])


def timed(action: Callable[[], Any]) -> dict[str, float]:
    """Seconds by the clock and of this process's CPU."""
    began, cpu = time.perf_counter(), time.process_time()
    action()
    return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}


def model_of(mib: int) -> Any:
    """Ten layers of equal size, with random weights."""
    import keras

    keras.utils.set_random_seed(1)
    width = int((mib * 2**20 / 10 / 4) ** 0.5)
    layers = [keras.Input((width,))]
    layers += [keras.layers.Dense(width, use_bias=False) for _ in range(10)]
    model = keras.Sequential(layers)
    model.compile("sgd", "mse")
    return model


def keepfit(uri: str, mib: int) -> dict[str, Any]:
    """Commit, restore, and commit once more with a tenth of it changed."""
    from callbacks.checkpoint.claim import claim
    from callbacks.checkpoint.reader import newest_usable
    from callbacks.checkpoint.retention import KeepNewest
    from callbacks.checkpoint.snapshot import Position, Snapshot
    from callbacks.storage import open_store
    from callbacks.training import variables

    model = model_of(mib)
    for layer in model.layers[:-1]:
        layer.trainable = False
    store = open_store(uri)
    attempt = claim(store, "run", retention=KeepNewest(2), versions={})
    capture = variables.Capture(variables.find(model))

    def commit(step: int) -> Any:
        return attempt.commit(Snapshot(Position(step=step), capture(), {}))

    upload = timed(lambda: commit(1))
    model.layers[-1].kernel.assign_add(model.layers[-1].kernel)
    before = sum(entry.size for entry in store.list(""))
    commit(2)
    frozen = (sum(entry.size for entry in store.list("")) - before) / before

    def restore() -> None:
        found = newest_usable(store, "run", attempt.head.checkpoints, fit=0)
        if found is None:
            raise LookupError("there is no checkpoint")
        variables.assign(variables.find(model), found.arrays)

    return {"upload": upload, "download": timed(restore), "frozen": frozen}


def boto3_own(uri: str, mib: int, folder: str) -> dict[str, Any]:
    """The same bytes from a file and to a file, and into the variables."""
    import boto3

    model = model_of(mib)
    path, back = str(Path(folder, "model.weights.h5")), str(Path(folder, "back.weights.h5"))
    model.save_weights(path)
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    client = boto3.client("s3")
    upload = timed(lambda: client.upload_file(path, bucket, f"{key}/file"))

    def restore() -> None:
        client.download_file(bucket, f"{key}/file", back)
        model.load_weights(back)

    return {"upload": upload, "download": timed(restore)}


def training(uri: str | None, seconds: int) -> dict[str, float]:
    """Batches a second, from the third on; the last save is outside the time."""
    import keras
    import models

    from callbacks import Resumable

    class Pace(keras.callbacks.Callback):
        began = ended = 0.0
        batches = -3

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            del batch, logs
            self.batches += 1
            self.ended = time.perf_counter()
            self.began = self.ended if self.batches <= 0 else self.began
            if self.ended - self.began >= seconds:
                self.model.stop_training = True

        def get_state(self) -> None:
            return None

        def set_state(self, state: None) -> None:
            del state

    pace = Pace()
    saving = [Resumable(store=uri, run="bench", save_every="30s")] if uri else []
    model, batches = models.large()
    model.fit(batches, steps_per_epoch=10**6, verbose=0, callbacks=[pace, *saving])
    return {"pace": pace.batches / (pace.ended - pace.began)}


def child(kind: str, uri: str, number: int, folder: str) -> dict[str, Any]:
    """One measurement in this process."""
    match kind:
        case "keepfit":
            return keepfit(uri, number)
        case "boto3":
            return boto3_own(uri, number, folder)
        case "saving":
            return training(uri, number)
    return training(None, number)


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        print(json.dumps(child(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])))
    else:
        typer.run(main)
