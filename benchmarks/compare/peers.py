"""What people use without keepfit, each in the form that its own documentation shows.

No peer can write to S3 from TensorFlow 2.21, so what a peer has saved in a folder is sent from
there, by a thread, so that training need not wait for it: the peers' documents leave that open, and
this is the best that a careful user does.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from compare.hooks import After, Watched
from compare.method import ENDLESS, Done, Job, OnBatch, Place
from compare.uploads import Way
from compare.watch import Durable, Watch, now
from models import Training


class Sending:
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


class OwnCallback(Sending):
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
            restores: the callback itself does it. Otherwise its users note the epoch, too.
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
        watched = Watched(self._callback, watch)
        model.fit(data, steps_per_epoch=ENDLESS, verbose=0, callbacks=[watched])

    def resume(self, make: Callable[[], Training], place: Place, saves: int, then: OnBatch) -> None:
        folder = self.fetch(place, saves)
        model, data = make()
        model = self._load(model, folder)
        own = [self._make(folder, ENDLESS)] if self._restores else []
        model.fit(data, steps_per_epoch=ENDLESS, verbose=0, callbacks=[*own, After(then)])

    def complete(self, make: Callable[[], Training], folder: Path, job: Job, then: OnBatch) -> Done:
        model, data = make()
        began, note = 0, folder.with_name("epoch")
        if any(folder.iterdir()) and not self._restores:
            model = self._load(model, folder)
            began = int(note.read_text())
        noting = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, _: note.write_text(str(epoch))
        )
        done = model.fit(
            data,
            epochs=job.epochs,
            initial_epoch=began,
            steps_per_epoch=job.steps,
            verbose=0,
            callbacks=[self._make(folder, job.every), noting, After(then, job.steps)],
        )
        return model, done.history


def weights(name: str) -> Callable[[keras.Model, Path], keras.Model]:
    def load(model: keras.Model, folder: Path) -> keras.Model:
        model.optimizer.build(model.trainable_variables)  # or its state is left out
        model.load_weights(folder / name)
        return model

    return load


class CheckpointManager(Sending):
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


def whole_model(model: keras.Model, folder: Path) -> keras.Model:
    del model
    return keras.models.load_model(folder / "model.keras")


def orbax(model: keras.Model, folder: Path) -> keras.Model:
    model.optimizer.build(model.trainable_variables)
    model.load_weights(folder)
    return model
