"""The methods that are used without keepfit, each in the form that its documentation shows.

No peer can write to S3 from TensorFlow 2.21, so a peer saves to a folder, from which a thread
uploads the files, so that training need not wait for it: the peers' documentation leaves this to
the user, and this is the best that a careful user would do.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from compare.hooks import After, Watched
from compare.method import ENDLESS, Job, OnBatch, Place, Result
from compare.uploads import Way
from compare.watch import Durable, Watch, now
from models import Training


class Sending:
    """The common part of all peers: a thread that uploads the folder to S3 once it is complete."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "sender")

    def flush(self) -> None:
        """Wait until the last save is complete in its folder."""

    def watched(self, place: Place) -> tuple[Callable[[int], Durable], Callable[[int], str]]:
        def way(number: int) -> Way:
            return place.ways[number % len(place.ways)]

        def send(number: int) -> float:
            self.flush()
            way(number).send(place.folder, place.save_url(number))
            return now()

        return lambda number: self._pool.submit(send, number), lambda number: way(number).name

    def fetch(self, place: Place, saves: int) -> Path:
        """Download the last of the saves into the folder and return the folder."""
        place.ways[0].fetch(place.save_url(saves - 1), place.folder)
        return place.folder


class OwnCallback(Sending):
    """One of Keras' own callbacks."""

    def __init__(
        self,
        make_callback: Callable[[Path, int], keras.callbacks.Callback],
        load: Callable[[keras.Model, Path], keras.Model],
        *,
        restores: bool = False,
    ) -> None:
        """Take a callback, and the code that its users write to resume from its files.

        Args:
            make_callback: takes a folder and the number of batches between two saves.
            load: returns the model to continue with, which may be the same one.
            restores: the callback itself resumes. Otherwise its users record the epoch as well.
        """
        super().__init__()
        self._make_callback, self._load, self._restores = make_callback, load, restores
        self._callback: Any = None

    def flush(self) -> None:
        if hasattr(self._callback, "wait_until_finished"):
            self._callback.wait_until_finished()

    def train(self, training: Training, place: Place, watch: Watch) -> None:
        model, data = training
        self._callback = self._make_callback(place.folder, 1)
        watched = Watched(self._callback, watch)
        model.fit(data, steps_per_epoch=ENDLESS, verbose=0, callbacks=[watched])

    def resume(
        self, make_training: Callable[[], Training], place: Place, saves: int, on_batch: OnBatch
    ) -> None:
        folder = self.fetch(place, saves)
        model, data = make_training()
        model = self._load(model, folder)
        own = [self._make_callback(folder, ENDLESS)] if self._restores else []
        model.fit(data, steps_per_epoch=ENDLESS, verbose=0, callbacks=[*own, After(on_batch)])

    def complete(
        self, make_training: Callable[[], Training], folder: Path, job: Job, on_batch: OnBatch
    ) -> Result:
        model, data = make_training()
        initial_epoch, epoch_file = 0, folder.with_name("epoch")
        if any(folder.iterdir()) and not self._restores:
            model = self._load(model, folder)
            initial_epoch = int(epoch_file.read_text())
        record_epoch = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, _: epoch_file.write_text(str(epoch))
        )
        own = self._make_callback(folder, job.every)
        history = model.fit(
            data,
            epochs=job.epochs,
            initial_epoch=initial_epoch,
            steps_per_epoch=job.steps,
            verbose=0,
            callbacks=[own, record_epoch, After(on_batch, job.steps)],
        )
        return model, history.history


def weights(name: str) -> Callable[[keras.Model, Path], keras.Model]:
    def load(model: keras.Model, folder: Path) -> keras.Model:
        model.optimizer.build(model.trainable_variables)  # otherwise its state is not loaded
        model.load_weights(folder / name)
        return model

    return load


class CheckpointManager(Sending):
    """tf.train.CheckpointManager in a custom training loop, as in TensorFlow's guide.

    The iterator is saved, too. The train step is Keras' own, so that it takes as long as in `fit`.
    In asynchronous mode the checkpoint gets the tf.Variables inside Keras' variables: with Keras'
    own, saving raises "tf.function only supports singleton tf.Variables" (TensorFlow 2.21,
    Keras 3.15: each save creates a variable in Variable._copy_trackable_to_cpu).
    """

    def __init__(self, *, asynchronous: bool) -> None:
        super().__init__()
        self._use_tf_variables = asynchronous
        self._options = tf.train.CheckpointOptions(enable_async=asynchronous)
        self._checkpoint: Any = None

    def flush(self) -> None:
        self._checkpoint.sync()

    def _manager(self, training: Training, folder: Path) -> tuple[Any, Any]:
        model, data = training
        iterator = iter(data)
        net, optimizer = model, model.optimizer
        if self._use_tf_variables:
            optimizer.build(model.trainable_variables)
            net, optimizer = ([v.value for v in part.variables] for part in (net, optimizer))
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

    def resume(
        self, make_training: Callable[[], Training], place: Place, saves: int, on_batch: OnBatch
    ) -> None:
        folder = self.fetch(place, saves)
        training = make_training()
        manager, iterator = self._manager(training, folder)
        self._checkpoint.restore(manager.latest_checkpoint).expect_partial()
        step = _step(training[0])
        while True:
            step(iterator)
            on_batch(0)

    def complete(
        self, make_training: Callable[[], Training], folder: Path, job: Job, on_batch: OnBatch
    ) -> Result:
        training = make_training()
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
            on_batch(batch)
        self.flush()
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
