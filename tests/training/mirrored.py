"""A process with four logical devices, where strategies read and train, interrupted and resumed.

    python -m tests.training.mirrored CASE...

For each case it prints one JSON object per line: {"case": …, "error": null or a traceback}. The
devices have to be configured before TensorFlow starts, so no other test can share its process.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.tensorflow.trainer import TFEpochIterator

from keepfit.callbacks import events
from keepfit.callbacks.errors import Refused
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.training.data.position import LATER
from keepfit.callbacks.training.data.tracker import DataTracker, StateRefresh
from tests.training import trainings
from tests.training.test_data import FREE, Clock, Saved
from tests.training.trainings import BATCH, Training

ROWS, EPOCHS = 90, 3


@functools.cache
def strategy(replicas: int) -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(replicas)])


# Inputs. Their rows are numbers, so that the order of a batch can be compared.


def rows(count: int = ROWS) -> tf.data.Dataset:
    return tf.data.Dataset.range(count)


def shuffled() -> dict[str, Any]:
    return {"x": rows().shuffle(20, seed=3).batch(15).prefetch(2)}


def shuffled_without_seed() -> dict[str, Any]:
    return {"x": rows().shuffle(20).map(lambda x: x + 1, num_parallel_calls=2).batch(15)}


def same_order() -> dict[str, Any]:
    return {"x": rows().shuffle(20, seed=3, reshuffle_each_iteration=False).batch(15)}


def twice_shuffled() -> dict[str, Any]:
    return {"x": rows().shuffle(20, seed=3).shuffle(9, seed=4).batch(15)}


def rows_and_batches() -> dict[str, Any]:
    return {"x": rows().shuffle(20, seed=3).batch(15).shuffle(3, seed=4)}


def concatenated() -> dict[str, Any]:
    parts = [rows(45).shuffle(9, seed=seed) for seed in (1, 2)]
    return {"x": parts[0].concatenate(parts[1]).batch(15)}


def mixed() -> dict[str, Any]:
    parts = [rows(45).shuffle(9, seed=1), rows(45).shuffle(9, seed=2)]
    chosen = tf.data.Dataset.sample_from_datasets(
        parts, [0.5, 0.5], seed=4, rerandomize_each_iteration=True
    )
    return {"x": chosen.batch(15)}


def interleaved() -> dict[str, Any]:
    files = tf.data.Dataset.range(6).shuffle(6, seed=1)
    read = files.interleave(lambda f: tf.data.Dataset.range(f * 15, f * 15 + 15), 3)
    return {"x": read.shuffle(16, seed=3).batch(15)}


def of_unknown_length() -> dict[str, Any]:
    return {"x": rows(150).shuffle(20, seed=3).filter(lambda x: x % 5 > 1).batch(15)}


def cached() -> dict[str, Any]:
    return {"x": rows().cache().shuffle(20, seed=3).batch(15)}


def shuffled_and_cached() -> dict[str, Any]:
    return {"x": rows().shuffle(20, seed=3).cache().batch(15)}


def twice_shuffled_and_cached() -> dict[str, Any]:
    return {"x": rows().shuffle(20, seed=3).cache().shuffle(20, seed=4).batch(15)}


def odd_batches() -> dict[str, Any]:
    """Batches of seven rows, and a last one of a single row, which not every replica gets."""
    return {"x": rows(36).shuffle(20, seed=3).batch(7)}


def endless() -> dict[str, Any]:
    return {"x": rows(900).shuffle(99, seed=3).repeat().batch(15), "steps_per_epoch": 6}


def endless_twice_shuffled() -> dict[str, Any]:
    data = rows(900).shuffle(20, seed=3).repeat().batch(15).shuffle(3, seed=4)
    return {"x": data, "steps_per_epoch": 6}


def endless_by_two() -> dict[str, Any]:
    """Two batches in each call of the train function."""
    return {**endless(), "steps_per_execution": 2}


def one_pass_over_epochs() -> dict[str, Any]:
    """An iterator that serves three epochs, and then another one."""
    return {"x": rows(360).shuffle(20, seed=3).batch(15), "steps_per_epoch": 8}


def arrays() -> dict[str, Any]:
    return {"x": np.arange(ROWS), "batch_size": 15, "shuffle": True}


def arrays_by_batch() -> dict[str, Any]:
    return {"x": np.arange(ROWS), "batch_size": 15, "shuffle": "batch"}


def arrays_in_order() -> dict[str, Any]:
    return {"x": np.arange(ROWS), "batch_size": 15, "shuffle": False}


def distributed_by_the_script(replicas: int) -> dict[str, Any]:
    return {"x": strategy(replicas).experimental_distribute_dataset(shuffled()["x"])}


def made_for_each_worker(replicas: int) -> dict[str, Any]:
    return {"x": strategy(replicas).distribute_datasets_from_function(lambda _: shuffled()["x"])}


INPUTS: dict[str, Callable[..., dict[str, Any]]] = {
    make.__name__: make
    for make in (
        shuffled,
        shuffled_without_seed,
        same_order,
        twice_shuffled,
        rows_and_batches,
        concatenated,
        mixed,
        interleaved,
        of_unknown_length,
        cached,
        shuffled_and_cached,
        twice_shuffled_and_cached,
        odd_batches,
        endless,
        endless_twice_shuffled,
        endless_by_two,
        one_pass_over_epochs,
        arrays,
        arrays_by_batch,
        arrays_in_order,
        distributed_by_the_script,
        made_for_each_worker,
    )
}


Step = tuple[int, int]
"""An epoch, and the number of batches in it that have been read."""


def read(
    name: str,
    replicas: int,
    start: Step = (0, 0),
    saved: Saved | None = None,
    *,
    tracked: bool = True,
) -> tuple[dict[Step, Any], dict[Step, Saved]]:
    """Read the batches of a fit as Keras does; return them, and the positions before and after.

    Args:
        start: where to start, with the position `saved` from there.
        tracked: keepfit's tracker follows the iterators.
    """
    keras.utils.set_random_seed(7)
    make = INPUTS[name]
    given = make(replicas) if make.__code__.co_argcount else make()
    epochs = TFEpochIterator(distribute_strategy=strategy(replicas), **given)
    for _, _, iterator in epochs:  # fit reads a batch to build the model
        next(iterator)
        break
    epochs.reset()
    steps = given.get("steps_per_execution", 1)
    tracker = DataTracker(steps_per_call=steps, clock=Clock(FREE))
    batches, positions = {}, {}
    for epoch in range(start[0], EPOCHS):
        with warnings.catch_warnings(action="ignore"), epochs.catch_stop_iteration():
            for step, _, iterator in epochs:
                if tracked:
                    tracker.observe(iterator)
                if saved:
                    tracker.restore(saved.states, saved.plain, steps)
                    epochs._steps_seen += saved.plain["calls"] * steps - start[1]
                    saved = None
                if (epoch, step) < start:
                    continue
                if not step:
                    positions[epoch, step] = Saved.of(tracker.position(StateRefresh.IF_CHEAP))
                batches[epoch, step] = [_numbers(next(iterator)) for _ in range(steps)]
                tracker.advance()
                positions[epoch, step + steps] = Saved.of(tracker.position(StateRefresh.IF_CHEAP))
    return batches, positions


def _numbers(value: Any) -> list[Any]:
    return [part.numpy().tolist() for part in getattr(value, "values", (value,))]


def reading(replicas: int, name: str, number: int) -> None:
    """Interrupt one input at several steps: the batches that follow are the same.

    Args:
        number: which of the steps to take.
    """
    expected, _ = read(name, replicas, tracked=False)
    assert len({epoch for epoch, _ in expected}) == EPOCHS
    batches, positions = read(name, replicas)
    assert batches == expected, "to follow the iterators changes what they return"
    if name not in SAME_IN_EACH_EPOCH:
        assert expected[0, 0] != expected[1, 0] != expected[2, 0]
    assert relayed(positions) == name.startswith("endless")
    for step in list(positions)[number :: len(positions) // 3]:
        resumed, _ = read(name, replicas, step, positions[step])
        assert resumed == {at: batch for at, batch in expected.items() if at >= step}, step
        assert resumed or step == max(positions), step


def relayed(positions: dict[Step, Saved]) -> bool:
    """Return whether the later positions have a state, so that few batches are read again."""
    return all(LATER in saved.states for step, saved in positions.items() if step >= (1, 0))


SAME_IN_EACH_EPOCH = {
    "same_order",
    "shuffled_and_cached",
    "arrays",
    "arrays_by_batch",
    "arrays_in_order",
}
"""A seeded fit draws the same order from arrays in each epoch: its ops start over."""


# Inputs that can't be exact


def without_any_seed() -> dict[str, Any]:
    tf.random.set_seed(None)
    return {"x": rows().shuffle(20).batch(15)}


def generated() -> dict[str, Any]:
    spec = tf.TensorSpec((), tf.int64)
    data = tf.data.Dataset.from_generator(lambda: range(ROWS), output_signature=spec)
    return {"x": data.batch(15)}


def noisy() -> dict[str, Any]:
    return {"x": rows().map(lambda x: tf.random.uniform(())).batch(15)}


def captured() -> dict[str, Any]:
    """A shuffle that only a function knows, and that draws in each call of it."""
    inner = rows(15).shuffle(9, seed=1)
    return {"x": rows(6).flat_map(lambda _: inner).batch(15)}


INEXACT = {make.__name__: make for make in (without_any_seed, generated, noisy, captured)}


def reported(replicas: int, name: str) -> None:
    """An input that can't be exact is named before its first batch, and refused by --exact."""
    keras.utils.set_random_seed(7)
    data = strategy(replicas).experimental_distribute_dataset(INEXACT[name]()["x"])
    with capture_logs() as logs:
        tracker = DataTracker()
        for _ in range(2):
            tracker.observe(iter(data))
    assert [log["event"] for log in logs] == [events.DATA_UNSAVABLE], logs
    guard = ExactnessGuard(exact=True)
    try:
        DataTracker(guard).observe(iter(data))
    except Refused:
        return
    raise AssertionError("it is not refused")


# Whole trainings


class Replicated(keras.layers.Layer):
    """A layer with a variable that each replica changes for itself."""

    def build(self, shape: Any) -> None:
        self.seen = tf.Variable(
            0.0,
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
        )

    def call(self, x: Any) -> Any:
        if not tf.distribute.in_cross_replica_context():  # in which Keras builds the model
            self.seen.assign_add(tf.reduce_sum(x))
        return x


def model(replicas: int) -> keras.Model:
    with strategy(replicas).scope():
        parts = [keras.layers.Dense(4), keras.layers.Dropout(0.4), Replicated()]
        parts += [keras.layers.BatchNormalization(), keras.layers.Dense(3)]
        return trainings.compiled(parts, keras.optimizers.Adam(), metrics=["accuracy"])


def labelled(count: int = 40) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(trainings.arrays(count))


NAMED = {events.DATA_UNSAVABLE, events.DATA_ORDER_UNSAVABLE, events.BATCH_UNKNOWN}
"""What the log would name if a fit could not be exact."""

FITS: dict[str, dict[str, Any]] = {
    "dataset": {"data": lambda: labelled().shuffle(16, seed=3).batch(BATCH)},
    "cached": {"data": lambda: labelled().shuffle(16).cache().shuffle(8).batch(BATCH)},
    "endless": {
        "data": lambda: labelled(400).shuffle(16).repeat().batch(BATCH),
        "fit": {"epochs": 3, "steps_per_epoch": 5},
    },
    "numpy": {"data": trainings.from_arrays},
    "validation_steps": {
        "data": lambda: labelled(34).shuffle(16, seed=3).batch(BATCH),
        "fit": {"epochs": 3, "validation_steps": 2},
    },
}

MOMENTS = {
    "first batch": ("on_train_batch_end", 1),
    "within an epoch": ("on_train_batch_end", 2),
    "last batch of epoch 1": ("on_train_batch_end", 5),
    "validation": ("on_test_batch_end", 1),
    "between epochs": ("on_epoch_end", 1),
    "epoch begin": ("on_epoch_begin", 2),
    "within epoch 2": ("on_train_batch_end", 8),
    "first batch of epoch 3": ("on_train_batch_begin", 11),
    "last batch of epoch 3": ("on_train_batch_end", 15),
    "last validation": ("on_test_batch_end", 7),
}


def fit(replicas: int, name: str, moment: str) -> None:
    """Interrupt a training at one moment: every replica's variables are the same in the end."""
    training = Training(model=lambda: model(replicas), **FITS[name])
    expected = trainings.whole(training)
    with tempfile.TemporaryDirectory() as folder:
        trainings.preempted(training, folder, *MOMENTS[moment])
        resumed = trainings.attempt(training, folder)
    trainings.assert_same(resumed, expected)
    assert _replicas(resumed.model) == _replicas(expected.model)
    assert not {log["event"] for log in resumed.logs} & NAMED, resumed.logs


def _replicas(trained: keras.Model) -> list[list[Any]]:
    """Return the value of each variable in each replica."""
    found = [*trained.variables, *trained.optimizer.variables, *trained.metrics_variables]
    values = [variable.value for variable in found] + [trained.layers[2].seen]
    return [_numbers(value) for value in values]


CASES: dict[str, Callable[[], None]] = {}
for _count in (2, 4):
    for _name in INPUTS:
        for _number in range(3):
            CASES[f"reading-{_count}-{_name}-{_number}"] = functools.partial(
                reading, _count, _name, _number
            )
    for _name in INEXACT:
        CASES[f"reported-{_count}-{_name}"] = functools.partial(reported, _count, _name)
    for _name, _moment in itertools.product(FITS, MOMENTS):
        CASES[f"fit-{_count}-{_name}-{_moment}"] = functools.partial(fit, _count, _name, _moment)


def main(names: list[str]) -> None:
    """Run the cases, one after another."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # the log is no answer
    tf.config.threading.set_inter_op_parallelism_threads(16)  # each device waits for the others
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)
    for name in names:
        error = None
        try:
            CASES[name]()
        except BaseException:  # noqa: BLE001 # the test that asked for the case reports it
            error = traceback.format_exc()
        answers.write(json.dumps({"case": name, "error": error}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
