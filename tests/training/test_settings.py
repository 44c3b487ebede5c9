"""The description of a fit in its checkpoints: what may change, what is refused, what counts."""

from __future__ import annotations

import json
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keepfit.callbacks.errors import Refused
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.training.identity.description import InputDescription, input_differences
from keepfit.callbacks.training.identity.hyperparameters import (
    changes,
    check,
    hyperparameters,
    merged,
    report,
)
from tests.training.inputs import Indexed, given, rows, xy


def described(strategy: Any = None, **arguments: Any) -> InputDescription:
    return InputDescription.of(given(strategy, **arguments))


def arrays(count: int = 24, **more: Any) -> dict[str, Any]:
    """Return arguments of fit with arrays of so many rows."""
    x, y = xy()
    return {"x": x[:count], "y": y[:count], "batch_size": 4, **more}


def generator(width: int = 4):
    while True:
        yield np.zeros((8, width), "float32"), np.zeros(8)


DATA = {"x": rows().batch(4)}
VALIDATED = arrays(validation_data=xy())

INPUTS = {
    "batch size": (
        arrays(),
        arrays(batch_size=8),
        ["the batch size of the input is 8, the checkpoint was trained with 4"],
    ),
    "rows": (arrays(), arrays(16), ["the input has 16 rows, the checkpoint was trained with 24"]),
    "shuffle": (
        arrays(),
        arrays(shuffle=False),
        ["shuffle is False, the checkpoint was trained with True"],
    ),
    "kind": (
        arrays(),
        DATA,
        ["the input is a tf.data dataset, the checkpoint was trained with arrays"],
    ),
    "dtype": (
        arrays(),
        arrays(x=xy()[0].astype("int32")),
        ["the input has int32 [4] features, the checkpoint was trained with float32 [4] features"],
    ),
    "a weight more": (
        arrays(),
        arrays(sample_weight=np.ones(24)),
        ["the input has float32 [] weights, the checkpoint was trained with no weights"],
    ),
    "batch size of a dataset": (
        DATA,
        {"x": rows().batch(8).prefetch(1)},
        ["the batch size of the input is 8, the checkpoint was trained with 4"],
    ),
    "batches of a dataset": (
        DATA,
        {"x": rows().take(12).batch(4)},
        ["an epoch has 3 batches, the checkpoint's has 6"],
    ),
    "steps_per_epoch": (
        arrays(steps_per_epoch=3),
        arrays(steps_per_epoch=2),
        ["steps_per_epoch is 2, the checkpoint was trained with 3"],
    ),
    "shape of a generator's batches": (
        {"x": generator(), "steps_per_epoch": 3},
        {"x": generator(5), "steps_per_epoch": 3},
        [
            "the input has float32 [5] features, the checkpoint was trained with float32 [4] "
            "features"
        ],
    ),
    "validation": (
        arrays(),
        VALIDATED,
        ["validation data is given, the checkpoint was trained without it"],
    ),
    "rows of validation": (
        VALIDATED,
        arrays(validation_data=(xy()[0][:8], xy()[1][:8])),
        ["the validation data has 8 rows, the checkpoint was trained with 24"],
    ),
    "validation_freq": (
        VALIDATED,
        arrays(validation_data=xy(), validation_freq=2),
        ["validation_freq is 2, the checkpoint was trained with 1"],
    ),
    "nothing": (arrays(), arrays(epochs=9), []),
    "content": (arrays(), {**arrays(), "x": xy(1.0)[0]}, []),
    "a PyDataset": ({"x": Indexed()}, {"x": Indexed(1.0)}, []),
}
"""Arguments of fit in two attempts, and the differences between them."""


@pytest.mark.parametrize("case", INPUTS)
def test_differences(case):
    """Each difference is a sentence that names both values; JSON keeps the description."""
    before, now, expected = INPUTS[case]
    first, second = described(**before), described(**now)
    stored = InputDescription.of_state({"input": json.loads(json.dumps(first.model_dump()))})
    assert stored == first
    assert input_differences(stored, second) == expected


def test_replicas_and_steps_per_execution():
    """They decide how positions count, and what each replica has seen."""
    two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    one, distributed = described(**arrays()), described(two, **arrays())
    assert input_differences(one, distributed) == [
        "2 replicas share a batch, the checkpoint was trained with 1"
    ]
    longer = one.model_copy(update={"steps_per_execution": 3})
    assert input_differences(one, longer) == [
        "steps_per_execution is 3, the checkpoint was trained with 1"
    ]


def test_what_a_store_may_contain():
    """A checkpoint of keepfit 0.1 has no description; anything else has to be one."""
    assert InputDescription.of_state({}) is None
    for saved in (3, {"kind": 1}, {"kind": "arrays", "rows": "many"}):
        with pytest.raises(ValueError, match="description of the input is invalid"):
            InputDescription.of_state({"input": saved})


def model(rate=0.3, l2=0.1, weights=None, **settings):
    """Return a model whose optimizer has these settings."""
    layers = [
        keras.layers.Dropout(rate),
        keras.layers.Dense(1, kernel_regularizer=keras.regularizers.L2(l2)),
    ]
    built = keras.Sequential(layers)
    built.compile(
        keras.optimizers.AdamW(**{"learning_rate": 0.01, **settings}), "mse", loss_weights=weights
    )
    return built


def cosine(steps):
    return keras.optimizers.schedules.CosineDecay(0.1, steps)


HYPERPARAMETERS = {
    "learning rate": (
        {},
        {"learning_rate": 0.001},
        "optimizer.learning_rate is 0.001 in the script, and was 0.01 in the checkpoint, which "
        "counts",
    ),
    "weight decay": (
        {},
        {"weight_decay": 0.5},
        "optimizer.weight_decay is 0.5 in the script, and was 0.004 in the checkpoint; the "
        "script's counts",
    ),
    "schedule": (
        {"learning_rate": cosine(100)},
        {"learning_rate": cosine(200)},
        "optimizer.learning_rate.decay_steps is 200 in the script, and was 100 in the checkpoint; "
        "the script's counts",
    ),
    "dropout": (
        {},
        {"rate": 0.5},
        "layer 1 (Dropout).rate is 0.5 in the script, and was 0.3 in the checkpoint; the script's "
        "counts",
    ),
    "regularizer": (
        {},
        {"l2": 0.2},
        "layer 2 (Dense).kernel_regularizer.l2 is 0.2 in the script, and was 0.1 in the "
        "checkpoint; the script's counts",
    ),
    "loss weights": (
        {},
        {"weights": 2.0},
        "loss_weights is 2.0 in the script, and was None in the checkpoint; the script's counts",
    ),
}
"""Settings of a model in two attempts, and the sentence about them."""


@pytest.mark.parametrize("case", HYPERPARAMETERS)
def test_changed_hyperparameters(case):
    """The log names both values and which of them counts; --exact refuses; it is said once."""
    before, now, sentence = HYPERPARAMETERS[case]
    saved = json.loads(json.dumps(hyperparameters(model(**before))))
    assert changes(saved, hyperparameters(model(**before))) == []
    current = hyperparameters(model(**now))
    found = changes(saved, current)
    assert list(map(str, found)) == [sentence]
    with capture_logs() as logs:
        report(found)
        check(found, ExactnessGuard())
    assert [(each["event"], each["reason"]) for each in logs] == [
        ("hyperparameter_changed", sentence)
    ]
    exact = ExactnessGuard(exact=True)
    with capture_logs() as logs, pytest.raises(Refused):
        check(found, exact)
    assert logs[0]["reason"] == f"--exact: {sentence}"
    again = changes(merged(saved, current), current)
    assert [each.in_variable for each in again] == [True] * found[0].in_variable


def test_a_callback_that_changes_the_learning_rate_is_no_change():
    """Only the configured values are compared, as they are when fit begins."""
    trained = model()
    saved = hyperparameters(trained)
    trained.optimizer.learning_rate = 0.0005
    assert changes(saved, hyperparameters(model())) == []
    assert changes(None, saved) == []
