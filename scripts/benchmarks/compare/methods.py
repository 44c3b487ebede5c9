"""keepfit and its peers, each in the form that its own documentation shows.

No peer can write to S3 from TensorFlow 2.21, so what a peer has saved in a folder is sent from
there, by a thread, so that training need not wait for it: the peers' documents leave that open, and
this is the best that a careful user does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import keras
import structlog
import tensorflow as tf

from compare.uploads import Way
from compare.watch import Durable, Watch, now
from models import Training

NEVER = "1000000000 batches"
ENDLESS = 10**9

Logs = dict[str, Any] | None
OnBatch = Callable[[int], None]
"""Is given the number of the batch within the whole job, from 0."""


@dataclass(frozen=True)
class Place:
    """Where checkpoints go.

    Attributes:
        folder: on this machine, empty at first.
        url: in S3.
        ways: how a peer's folder gets to S3; the save of number i goes ways[i % len(ways)].
    """

    folder: Path
    url: str
    ways: tuple[Way, ...] = ()

    def of(self, number: int) -> str:
        """Where a peer's save of that number is in S3."""
        return f"{self.url}/{number}"


Done = tuple[keras.Model, dict[str, list[float]] | None]
"""A trained model, and its history if there is one."""


@dataclass(frozen=True)
class Job:
    """A training with an end: so many epochs of so many batches, and a save every so many."""

    epochs: int
    steps: int
    every: int


class Method(Protocol):
    """Keeps a training."""

    def watched(self, place: Place) -> tuple[Callable[[int], Durable], Callable[[int], str]]:
        """When a save is durable, and how it gets there; as Watch asks for them."""

    def train(self, training: Training, place: Place, watch: Watch) -> None:
        """Train, with saves where the watch wants them, until it has seen enough."""

    def resume(self, make: Callable[[], Training], place: Place, saves: int, then: OnBatch) -> None:
        """Go on from the last of the saves on an empty machine; call `then` after each batch."""

    def complete(self, make: Callable[[], Training], folder: Path, job: Job, then: OnBatch) -> Done:
        """Train to the end, from what is in the folder if anything is."""


class _Watched(keras.callbacks.Callback):
    """Stands before a method's callback, and leaves it to the watch when it is called."""

    def __init__(self, inner: keras.callbacks.Callback, watch: Watch, *, each: bool) -> None:
        super().__init__()
        self._inner, self._watch, self._each = inner, watch, each

    def set_params(self, params: Any) -> None:
        self._inner.set_params(params)

    def set_model(self, model: Any) -> None:
        self._inner.set_model(model)

    def on_train_begin(self, logs: Logs = None) -> None:
        self._inner.on_train_begin(logs)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._inner.on_epoch_begin(epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        self._inner.on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        def hook() -> None:
            self._inner.on_train_batch_end(batch, logs)

        if self._each:
            self._watch.batch_ends(lambda: self._ask(hook), hook)
        else:
            self._watch.batch_ends(hook)

    def _ask(self, hook: Callable[[], None]) -> None:
        from callbacks import session

        session.current().ask_for_save()
        hook()


class _After(keras.callbacks.Callback):
    """Calls a function after each batch. Inside Resumable it sees only what is trained."""

    def __init__(self, then: OnBatch, steps: int = ENDLESS) -> None:
        super().__init__()
        self._then, self._steps = then, steps
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        del logs
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        del logs
        self._then(self._epoch * self._steps + batch)

    def get_state(self) -> dict[str, int]:
        return {"epoch": self._epoch}

    def set_state(self, state: dict[str, int]) -> None:
        self._epoch = state["epoch"]


class Keepfit:
    """Resumable. What asks it for a save here is what SIGUSR1 asks with in a job."""

    def watched(self, place: Place) -> tuple[Callable[[int], Durable], Callable[[int], str]]:
        del place
        from callbacks import events

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
        from callbacks import Resumable

        model, data = training
        kept = Resumable(store=place.url, run="bench", save_every=NEVER, keep=1)
        model.fit(
            data,
            steps_per_epoch=ENDLESS,
            verbose=0,
            callbacks=[_Watched(kept, watch, each=True)],
        )

    def resume(self, make: Callable[[], Training], place: Place, saves: int, then: OnBatch) -> None:
        del saves
        from callbacks import Resumable

        model, data = make()
        kept = Resumable([_After(then)], store=place.url, run="bench", save_every=NEVER)
        model.fit(data, steps_per_epoch=ENDLESS, verbose=0, callbacks=[kept])

    def complete(self, make: Callable[[], Training], folder: Path, job: Job, then: OnBatch) -> Done:
        from callbacks import Resumable

        model, data = make()
        kept = Resumable(
            [_After(then, job.steps)],
            store=f"file://{folder}",
            run="bench",
            save_every=f"{job.every} batches",
        )
        done = model.fit(
            data, epochs=job.epochs, steps_per_epoch=job.steps, verbose=0, callbacks=[kept]
        )
        return model, done.history


class _Sending:
    """What peers share: a thread that sends the folder to S3, once it is complete."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "sender")

    def settle(self) -> None:
        """Return when the last save is complete in its folder."""

    def watched(self, place: Place) -> tuple[Callable[[int], Durable], Callable[[int], str]]:
        def way(number: int) -> Way:
            return place.ways[number % len(place.ways)]

        def send(number: int) -> float:
            self.settle()
            way(number).send(place.folder, place.of(number))
            return now()

        return lambda number: self._pool.submit(send, number), lambda number: way(number).name

    def fetch(self, place: Place, saves: int) -> Path:
        """Bring the last of the saves to this machine."""
        place.ways[0].fetch(place.of(saves - 1), place.folder)
        return place.folder


class OwnCallback(_Sending):
    """A callback of Keras'."""

    def __init__(
        self,
        make: Callable[[Path, int], keras.callbacks.Callback],
        load: Callable[[keras.Model, Path], keras.Model],
        *,
        restores: bool = False,
    ) -> None:
        """A callback, and what its users write to go on from its files.

        Args:
            make: is given a folder, and how many batches are between two saves.
            load: gives the model that goes on, or the same one.
            restores: the callback itself does it.
        """
        super().__init__()
        self._make, self._load, self._restores = make, load, restores
        self._callback: Any = None

    def settle(self) -> None:
        if hasattr(self._callback, "wait_until_finished"):
            self._callback.wait_until_finished()

    def train(self, training: Training, place: Place, watch: Watch) -> None:
        model, data = training
        self._callback = self._make(place.folder, 1)
        watched = _Watched(self._callback, watch, each=False)
        model.fit(data, steps_per_epoch=ENDLESS, verbose=0, callbacks=[watched])

    def resume(self, make: Callable[[], Training], place: Place, saves: int, then: OnBatch) -> None:
        folder = self.fetch(place, saves)
        model, data = make()
        model = self._load(model, folder)
        own = [self._make(folder, ENDLESS)] if self._restores else []
        model.fit(data, steps_per_epoch=ENDLESS, verbose=0, callbacks=[*own, _After(then)])

    def complete(self, make: Callable[[], Training], folder: Path, job: Job, then: OnBatch) -> Done:
        model, data = make()
        began = 0
        if any(folder.iterdir()) and not self._restores:
            model = self._load(model, folder)
            began = int(model.optimizer.iterations) // job.steps
        done = model.fit(
            data,
            epochs=job.epochs,
            initial_epoch=began,
            steps_per_epoch=job.steps,
            verbose=0,
            callbacks=[self._make(folder, job.every), _After(then, job.steps)],
        )
        return model, done.history


def _load_weights(name: str) -> Callable[[keras.Model, Path], keras.Model]:
    def load(model: keras.Model, folder: Path) -> keras.Model:
        model.optimizer.build(model.trainable_variables)  # or its state is left out
        model.load_weights(folder / name)
        return model

    return load


class CheckpointManager(_Sending):
    """tf.train.CheckpointManager in a loop of one's own, as in TensorFlow's guide.

    The iterator is saved, too. The step is Keras' own, so that it takes as long as in `fit`.
    Asynchronously, it is given the variables below Keras' own: with those it raises "tf.function
    only supports singleton tf.Variables" (TensorFlow 2.21, Keras 3.15: each save makes a variable
    in Variable._copy_trackable_to_cpu).
    """

    def __init__(self, *, asynchronous: bool) -> None:
        super().__init__()
        self._below = asynchronous
        self._options = tf.train.CheckpointOptions(enable_async=asynchronous)
        self._checkpoint: Any = None

    def settle(self) -> None:
        self._checkpoint.sync()

    def _manager(self, training: Training, folder: Path) -> tuple[Any, Any]:
        model, data = training
        iterator = iter(data)
        net, optimizer = model, model.optimizer
        if self._below:
            optimizer.build(model.trainable_variables)
            net, optimizer = ([v.value for v in of.variables] for of in (net, optimizer))
        self._checkpoint = tf.train.Checkpoint(
            step=tf.Variable(0), optimizer=optimizer, net=net, iterator=iterator
        )
        manager = tf.train.CheckpointManager(self._checkpoint, str(folder), max_to_keep=1)
        return manager, iterator

    def train(self, training: Training, place: Place, watch: Watch) -> None:
        model, _ = training
        manager, iterator = self._manager(training, place.folder)
        step = _step(model)
        while True:
            step(iterator)
            self._checkpoint.step.assign_add(1)
            watch.batch_ends(lambda: manager.save(options=self._options))

    def resume(self, make: Callable[[], Training], place: Place, saves: int, then: OnBatch) -> None:
        folder = self.fetch(place, saves)
        training = make()
        manager, iterator = self._manager(training, folder)
        self._checkpoint.restore(manager.latest_checkpoint).expect_partial()
        step = _step(training[0])
        while True:
            step(iterator)
            then(0)

    def complete(self, make: Callable[[], Training], folder: Path, job: Job, then: OnBatch) -> Done:
        training = make()
        model, _ = training
        manager, iterator = self._manager(training, folder)
        if manager.latest_checkpoint:
            self._checkpoint.restore(manager.latest_checkpoint).expect_partial()
        step = _step(model)
        for batch in range(int(self._checkpoint.step), job.epochs * job.steps):
            step(iterator)
            self._checkpoint.step.assign_add(1)
            if (batch + 1) % job.every == 0:
                manager.save(options=self._options)
            then(batch)
        self.settle()
        return model, None


def _step(model: keras.Model) -> Callable[[Any], Any]:
    model.make_train_function()
    step: Callable[[Any], Any] = model.train_function
    return step


def _keras(model: keras.Model, folder: Path) -> keras.Model:
    del model
    return keras.models.load_model(folder / "model.keras")


def _orbax(model: keras.Model, folder: Path) -> keras.Model:
    model.optimizer.build(model.trainable_variables)
    model.load_weights(folder)
    return model


METHODS: Mapping[str, Callable[[], Method]] = {
    "keepfit": Keepfit,
    "BackupAndRestore": lambda: OwnCallback(
        lambda folder, every: keras.callbacks.BackupAndRestore(folder, save_freq=every),
        lambda model, _: model,
        restores=True,
    ),
    "ModelCheckpoint .keras": lambda: OwnCallback(
        lambda folder, every: keras.callbacks.ModelCheckpoint(
            folder / "model.keras", save_freq=every
        ),
        _keras,
    ),
    "ModelCheckpoint .weights.h5": lambda: OwnCallback(
        lambda folder, every: keras.callbacks.ModelCheckpoint(
            folder / "model.weights.h5", save_weights_only=True, save_freq=every
        ),
        _load_weights("model.weights.h5"),
    ),
    "OrbaxCheckpoint": lambda: OwnCallback(
        lambda folder, every: keras.callbacks.OrbaxCheckpoint(str(folder), save_freq=every),
        _orbax,
    ),
    "CheckpointManager": lambda: CheckpointManager(asynchronous=False),
    "CheckpointManager, async": lambda: CheckpointManager(asynchronous=True),
}
