"""What a second attempt may change, and what happens: the table in the README, row by row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import keras
import pytest

from keepfit.callbacks import events
from keepfit.callbacks.errors import Refused
from keepfit.callbacks.training.identity import fit_request
from tests.training.trainings import (
    BATCH,
    Counter,
    Training,
    arrays,
    attempt,
    preempted,
)


def as_arrays(batch_size: int = BATCH, rows: int = 40, scale: float = 1.0) -> dict[str, Any]:
    """Return arrays as arguments of `fit`."""
    x, y = arrays(rows)
    x[5, 2] *= scale
    return {"x": x, "y": y, "batch_size": batch_size}


def made(
    optimizer: Any = None,
    units: int = 3,
    rate: float = 0.4,
    loss: Any = None,
    name: str | None = None,
) -> keras.Model:
    """Return a model with these hyperparameters."""
    dense = keras.layers.Dense(units, name=name)
    layers = [keras.Input((4,)), keras.layers.Dropout(rate), dense]
    model = keras.Sequential(layers)
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.SGD(0.05), loss)
    return model


BASE = Training(model=made, data=as_arrays, validated=False)


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        second: the training of the second attempt.
        interrupted, finished: events that tell what happens to such a run: exactly one of
            `resumed`, `refused`, `already_finished` and `fit_new`, and those that say more.
    """

    second: Training
    interrupted: list[str]
    finished: list[str]


def input_row(**changed: Any) -> Row:
    return Row(replace(BASE, data=lambda: as_arrays(**changed)), [events.REFUSED], [events.FIT_NEW])


def model_row(event: str, **changed: Any) -> Row:
    second = replace(BASE, model=lambda: made(**changed))
    return Row(second, [events.RESUMED, event], [events.FIT_NEW])


TABLE = {
    "nothing": Row(BASE, [events.RESUMED], [events.ALREADY_FINISHED]),
    "more epochs": Row(
        replace(BASE, fit={"epochs": 5}), [events.RESUMED], [events.RESUMED, events.MORE_EPOCHS]
    ),
    "fewer epochs": Row(
        replace(BASE, fit={"epochs": 2}),
        [events.RESUMED],
        [events.ALREADY_FINISHED, events.FEWER_EPOCHS],
    ),
    "a number of the data": input_row(scale=2.0),
    "length of the data": input_row(rows=32),
    "batch size": input_row(batch_size=4),
    "steps_per_epoch": Row(
        replace(BASE, fit={"epochs": 3, "steps_per_epoch": 4}), [events.REFUSED], [events.FIT_NEW]
    ),
    "learning rate": Row(
        replace(BASE, model=lambda: made(keras.optimizers.SGD(0.01))),
        [events.RESUMED, events.HYPERPARAMETER_CHANGED],
        [events.FIT_NEW],
    ),
    "loss": model_row(
        events.HYPERPARAMETER_CHANGED,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=2),
    ),
    "dropout rate": model_row(events.HYPERPARAMETER_CHANGED, rate=0.2),
    "architecture": Row(
        replace(BASE, model=lambda: made(units=4)), [events.REFUSED], [events.FIT_NEW]
    ),
    "names of layers": Row(
        replace(BASE, model=lambda: made(name="other")),
        [events.RESUMED, events.VARIABLES_RENAMED],
        [events.ALREADY_FINISHED, events.VARIABLES_RENAMED],
    ),
    "one callback more": Row(
        replace(BASE, held=lambda: [Counter()]), [events.RESUMED], [events.ALREADY_FINISHED]
    ),
}


REPORTED = {event for row in TABLE.values() for event in (*row.interrupted, *row.finished)}


def reported(logs: list[Any]) -> list[str]:
    """Return the events of the table that were logged, each once."""
    return sorted({log["event"] for log in logs} & REPORTED)


def second_attempt(training: Training, folder: Any) -> list[str]:
    """Make the second attempt, and return what it reports."""
    try:
        return reported(attempt(training, folder).logs)
    except Refused:
        return [events.REFUSED]


@pytest.mark.parametrize("change", TABLE)
def test_interrupted(tmp_path, change):
    """The run continues, or is refused with a reason."""
    preempted(BASE, tmp_path, "on_train_batch_end", 7)
    assert second_attempt(TABLE[change].second, tmp_path) == sorted(TABLE[change].interrupted)


@pytest.mark.parametrize("change", TABLE)
def test_finished(tmp_path, change):
    """The result is returned only for what is the same training."""
    attempt(BASE, tmp_path)
    assert second_attempt(TABLE[change].second, tmp_path) == sorted(TABLE[change].finished)


@pytest.mark.parametrize("finished", [False, True])
def test_versions(tmp_path, finished, monkeypatch):
    """Another version of Keras may compute other bits."""
    if finished:
        attempt(BASE, tmp_path)
    else:
        preempted(BASE, tmp_path, "on_train_batch_end", 7)
    monkeypatch.setattr(fit_request, "library_versions", lambda: {"keras": "3.99.0"})
    (line,) = attempt(BASE, tmp_path).named(events.VERSIONS_CHANGED)
    assert "keras was" in line["reason"]
    assert "is 3.99.0" in line["reason"]
