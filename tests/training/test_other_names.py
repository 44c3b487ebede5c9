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
from keepfit.callbacks.training import variables
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
        fitted(Training(validated=False), model, [], epochs=1)
        model.save(path)
    return keras.models.load_model(path)


def twice() -> keras.Model:
    """The second of two models of one process."""
    sequential()
    return sequential()


OTHER_NAMES: dict[str, tuple[Callable[[], Any], Callable[[Path], Any]]] = {
    "load_model": (sequential, lambda folder: loaded(sequential, folder)),
    "load_model, nested": (nested, lambda folder: loaded(nested, folder)),
    "clone_model": (nested, lambda _: compiled(keras.models.clone_model(nested()))),
    "renamed": (sequential, lambda _: sequential("encoder", "decoder")),
    "one renamed": (sequential, lambda _: sequential("encoder")),
    "numbered": (lambda: sequential("block_1", "block_2"), lambda _: sequential()),
    "frozen": (
        lambda: sequential(trainable=False),
        lambda _: sequential("encoder", "decoder", trainable=False),
    ),
}


@functools.cache
def uninterrupted(make: Callable[[], keras.Model]) -> Outcome:
    return whole(Training(model=make))


def assert_same_values(resumed: Outcome, expected: Outcome) -> None:
    """Assert that outcomes are the same, but for the names of the variables."""
    assert list(resumed.variables.values()) == list(expected.variables.values())
    assert (resumed.history, resumed.epochs) == (expected.history, expected.epochs)
    assert resumed.draws == expected.draws


@pytest.mark.parametrize("kind", OTHER_NAMES)
def test_other_names(tmp_path, kind):
    """Attempts take turns with both models; each resumes the other's checkpoint exactly."""
    make, others = OTHER_NAMES[kind]
    first = Training(model=make)
    other = Training(model=lambda: others(tmp_path))
    preempted(first, tmp_path, "on_train_batch_end", 3)
    preempted(other, tmp_path, "on_train_batch_end", 3)
    resumed = attempt(first, tmp_path)
    assert_same_values(resumed, uninterrupted(make))
    (renamed,) = resumed.named(events.VARIABLES_RENAMED)
    assert renamed["variables"] > len(renamed["examples"]) > 0
    assert all(" is " in example for example in renamed["examples"])
    finished = attempt(other, tmp_path)
    assert finished.named(events.ALREADY_FINISHED)
    assert_same_values(finished, uninterrupted(make))


@pytest.mark.parametrize("make", [lambda folder: twice(), lambda folder: sequential()])
def test_the_same_names(tmp_path, make):
    """A model that is built twice in one process has the same names; nothing is logged."""
    preempted(Training(model=sequential), tmp_path, "on_train_batch_end", 7)
    resumed = attempt(Training(model=lambda: make(tmp_path)), tmp_path)
    assert resumed.variables == uninterrupted(sequential).variables
    assert not resumed.named(events.VARIABLES_RENAMED)


def refused(model: keras.Model, folder: Path) -> str:
    """Return the reason for which the model can't resume."""
    with process() as logs, pytest.raises(Refused):
        fitted(Training(), model, [resumable(folder, [])])
    (entry,) = [log for log in logs if log["event"] == events.REFUSED]
    return str(entry["reason"])


def test_names_that_contradict_the_order(tmp_path):
    """A name that has moved to the other of two equal layers is refused, with both names."""
    preempted(
        Training(model=lambda: sequential("encoder", "decoder")), tmp_path, "on_train_batch_end", 3
    )
    reason = refused(sequential("decoder", "top"), tmp_path)
    assert "the names of layers contradict their order" in reason
    assert "sequential/encoder in the checkpoint, sequential/top in the model" in reason


def test_exchanged_names_decide(tmp_path):
    """Two equal layers with each other's names get the values of their names."""
    before = Training(model=lambda: sequential("encoder", "decoder"))
    preempted(before, tmp_path, "on_train_batch_end", 3)
    model = sequential("decoder", "encoder")
    with process():
        fitted(Training(), model, [resumable(tmp_path, [])], epochs=1)
    names = {named.spec.name for named in variables.find_variables(model)}
    assert names == uninterrupted(before.model).variables.keys()


def test_another_optimizer(tmp_path):
    """Optimizers with the same slots are told apart: the reason is one line about them."""
    preempted(Training(model=sequential), tmp_path, "on_train_batch_end", 3)
    model = sequential()
    model.compile("adamw", model.loss, metrics=["accuracy"])
    first, line = refused(model, tmp_path).split("\n")
    assert first == "the model's variables differ from the checkpoint's:"
    assert line.startswith("optimizer: adam (iteration, learning_rate, 8 momentum, 8 velocity)")
    assert "adam_w (iteration" in line
