"""Models whose variables have other names in a later attempt, resumed with an equal result."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest

from keepfit.callbacks import events
from keepfit.callbacks.errors import Refused
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.training import restore
from tests.rotation import rotating
from tests.training.architectures import dense, manifest
from tests.training.trainings import (
    Outcome,
    Training,
    attempt,
    fitted,
    preempted,
    process,
    resumable,
    whole,
)

layers = keras.layers


def compiled(model: keras.Model) -> keras.Model:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


def sequential(first: str | None = None, second: str | None = None, *, trainable: bool = True):
    """A model with two layers of equal shape, and with every kind of variable."""
    parts = [
        layers.Dense(4, name=first, trainable=trainable),
        layers.Dropout(0.4),
        layers.BatchNormalization(),
        layers.Dense(4, name=second),
        layers.Dense(3),
    ]
    return compiled(keras.Sequential([keras.Input((4,)), *parts]))


def nested():
    """A Sequential model in a functional one; layers are created in another order than used."""
    given = keras.Input((4,))
    last, inner = layers.Dense(3), keras.Sequential([layers.Dense(4), layers.Dropout(0.4)])
    return compiled(keras.Model(given, last(layers.Dense(4)(inner(layers.Dense(4)(given))))))


def loaded(make: Callable[[], keras.Model], folder: Path) -> keras.Model:
    """Return the model as a script with a resume of its own gets it: loaded, and trained before."""
    path = folder / "own.keras"
    if not path.exists():
        model = make()
        fitted(training(make), model, [], epochs=1)
        model.save(path)
    return keras.models.load_model(path)


def frozen(*names: str) -> keras.Model:
    """The model of `sequential` with a first layer that is not trained, and has no slots."""
    return sequential(*names, trainable=False)


def twice() -> keras.Model:
    """The second of two models of one process."""
    sequential()
    return sequential()


def training(model: Callable[[], keras.Model]) -> Training:
    """A training that is as short as an interruption in its second epoch allows."""
    return Training(model=model, validated=False, fit={"epochs": 2})


OTHER_NAMES: dict[str, tuple[Callable[[], Any], Callable[[Path], Any]]] = {
    "load_model": (sequential, lambda folder: loaded(sequential, folder)),
    "load_model, nested": (nested, lambda folder: loaded(nested, folder)),
    "clone_model": (nested, lambda _: compiled(keras.models.clone_model(nested()))),
    "renamed": (sequential, lambda _: sequential("encoder", "decoder")),
    "one renamed": (sequential, lambda _: sequential("encoder")),
    "numbered": (sequential, lambda _: sequential("block_1", "block_2")),
    "frozen": (frozen, lambda _: frozen("encoder", "decoder")),
}


@functools.cache
def uninterrupted(make: Callable[[], keras.Model]) -> Outcome:
    return whole(training(make))


def assert_same_values(resumed: Outcome, expected: Outcome) -> None:
    """Assert that outcomes are the same, but for the names of the variables."""
    assert list(resumed.variables.values()) == list(expected.variables.values())
    assert (resumed.history, resumed.epochs) == (expected.history, expected.epochs)
    assert resumed.draws == expected.draws


@pytest.mark.parametrize("kind", rotating(OTHER_NAMES))
def test_other_names(tmp_path, kind):
    """Attempts take turns with both models; each resumes the other's checkpoint exactly."""
    make, others = OTHER_NAMES[kind]
    first, other = training(make), training(lambda: others(tmp_path))
    preempted(first, tmp_path, "on_train_batch_end", 3)
    preempted(other, tmp_path, "on_train_batch_end", 4)
    resumed = attempt(first, tmp_path)
    assert_same_values(resumed, uninterrupted(make))
    (renamed,) = resumed.named(events.VARIABLES_RENAMED)
    assert renamed["variables"] > len(renamed["examples"]) > 0
    assert all(" is " in example for example in renamed["examples"])
    finished = attempt(other, tmp_path)
    if kind.startswith("load_model"):  # of a trained model, which the script trains further
        assert finished.named(events.FIT_NEW)
        return
    assert finished.named(events.ALREADY_FINISHED)
    assert_same_values(finished, uninterrupted(make))


def test_built_twice(tmp_path):
    """A model that is built twice in one process has the same names; nothing is logged."""
    preempted(training(sequential), tmp_path, "on_train_batch_end", 7)
    resumed = attempt(training(twice), tmp_path)
    assert resumed.variables == uninterrupted(sequential).variables
    assert not resumed.named(events.VARIABLES_RENAMED)


def refused(model: keras.Model, folder: Path) -> str:
    """Return the reason for which the model can't resume."""
    with process() as logs, pytest.raises(Refused):
        fitted(training(sequential), model, [resumable(folder, [])])
    (entry,) = [log for log in logs if log["event"] == events.REFUSED]
    return str(entry["reason"])


def named() -> keras.Model:
    return sequential("encoder", "decoder")


def test_refusals(tmp_path):
    """A name that has moved to the other of two equal layers, and another optimizer."""
    preempted(training(named), tmp_path, "on_train_batch_end", 3)
    reason = refused(sequential("decoder", "top"), tmp_path)
    assert "the names of layers contradict their order" in reason
    assert "sequential/encoder in the checkpoint, sequential/top in the model" in reason

    model = named()
    model.compile("adamw", model.loss, metrics=["accuracy"])
    first, line = refused(model, tmp_path).split("\n")
    assert first == "the model's variables differ from the checkpoint's:"
    assert line.startswith("optimizer: adam (iteration, learning_rate, 8 momentum, 8 velocity)")
    assert "adam_w (iteration" in line


def test_a_forged_record():
    """A record that does not fit the tensors is refused by name where the names differ."""
    forged = manifest(dense("a"), {"variables": {"groups": [], "owners": []}, "element_spec": None})
    with capture_logs() as logs, pytest.raises(Refused):
        restore.compare_model(sequential(), "key", forged)
    assert "its record of the variables is not valid" in logs[0]["reason"]


def test_exchanged_names_decide(tmp_path):
    """Two equal layers with each other's names get the values of their names."""
    finished = attempt(training(named), tmp_path)
    exchanged = attempt(training(lambda: sequential("decoder", "encoder")), tmp_path)
    assert exchanged.named(events.ALREADY_FINISHED)
    assert exchanged.variables == finished.variables
    assert not exchanged.named(events.VARIABLES_RENAMED)
