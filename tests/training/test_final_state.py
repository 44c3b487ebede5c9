"""The final states of finished fits: kept as long as the script may read them, and no longer."""

from __future__ import annotations

import gc

import keras
import numpy as np
import pytest

from keepfit.callbacks.checkpoint.read.documents import read_head, read_manifest
from keepfit.callbacks.errors import Preempted, Refused
from keepfit.callbacks.storage.local import LocalStore
from tests.training.trainings import SEED, GiveNotice, all_variables, process, resumable, set_seed

FITS = 6


def new_model() -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def data(number: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(number).normal(size=(12, 3)).astype("float32")
    return x, x.sum(1, keepdims=True)


def read_nothing(model: keras.Model, results: list[object]) -> None:
    """Look at nothing of the model."""


def evaluate(model: keras.Model, results: list[object]) -> None:
    """Evaluate the model, as a script does after each round of active learning."""
    results.append(model.evaluate(*data(99), verbose=0))


def read_weights(model: keras.Model, results: list[object]) -> None:
    """Keep a copy of the weights."""
    results.append([weight.tolist() for weight in model.get_weights()])


def one_model(folder, between, fits: int = FITS, more=(), **settings):
    """Fit one model again and again, and do `between` after each fit; return all results."""
    set_seed(SEED)
    model, results = new_model(), []
    for number in range(fits):
        callbacks = [resumable(folder, [*more] if number == fits - 1 else [], **settings)]
        x, y = data(number)
        history = model.fit(x, y, epochs=2, batch_size=4, verbose=0, callbacks=callbacks)
        results.append(history.history)
        between(model, results)
    return results, all_variables(model)


def with_variables(folder) -> list[int]:
    """Return the finished fits whose variables are in the store."""
    store = LocalStore(folder)
    head = read_head(store, "run").head
    manifests = {fit: read_manifest(store, "run", key) for fit, key in head.finished.items()}
    assert all(manifest.position.fit == fit for fit, manifest in manifests.items())
    return [fit for fit, manifest in sorted(manifests.items()) if manifest.has_variables]


@pytest.mark.parametrize(
    ("between", "kept"),
    [(read_nothing, [FITS - 1]), (evaluate, [*range(FITS)]), (read_weights, [*range(FITS)])],
)
def test_resumed_after_many_fits(tmp_path, between, kept):
    """Killed in the last fit, it ends as if uninterrupted; only what was read has been kept."""
    with process():
        expected = one_model(tmp_path / "whole", between)
    assert with_variables(tmp_path / "whole") == kept
    with process(), pytest.raises(Preempted):
        one_model(tmp_path / "cut", between, more=[GiveNotice("on_train_batch_end", 4)])
    assert with_variables(tmp_path / "cut") == kept[:-1]
    with process():
        assert one_model(tmp_path / "cut", between) == expected
    with process():
        assert one_model(tmp_path / "cut", between) == expected


def test_objects_of_dropped_states_are_deleted(tmp_path):
    """The store does not grow by the variables of each fit.

    The newest fit's continuation shares its variables; its architecture is stored with the data.
    """
    found = []
    for fits in (6, 18):
        with process():
            one_model(tmp_path / str(fits), read_nothing, fits)
        shards = [path.read_bytes() for path in (tmp_path / str(fits)).glob("run/shards/*")]
        names = (b'"model/sequential/dense/kernel":{', b'"class_name":"Sequential"')
        found.append([sum(name in shard.replace(b" ", b"") for shard in shards) for name in names])
    assert found == [[3, 4], [3, 4]]


def test_states_that_the_user_wants_to_keep(tmp_path):
    """With keep_fits, the newest finished fits keep their variables in any case."""
    with process():
        one_model(tmp_path, read_nothing, keep_fits=2)
    assert with_variables(tmp_path) == [FITS - 3, FITS - 2, FITS - 1]


def test_models_that_are_let_go(tmp_path):
    """A loop over new models keeps none of those that nothing refers to any more."""
    with process():
        set_seed(SEED)
        for number in range(4):
            model = new_model()
            model.fit(*data(number), verbose=0, callbacks=[resumable(tmp_path, [])])
            del model
            gc.collect()
    assert with_variables(tmp_path) == [3]


def test_models_that_are_kept(tmp_path):
    """A list of models may be read later, so their states are kept, and restored."""

    def script():
        set_seed(SEED)
        models = [new_model() for _ in range(3)]
        for number, model in enumerate(models):
            model.fit(*data(number), verbose=0, callbacks=[resumable(tmp_path, [])])
        return [all_variables(model) for model in models]

    with process():
        expected = script()
    assert with_variables(tmp_path) == [0, 1, 2]
    with process():
        assert script() == expected


@pytest.mark.parametrize("between", [evaluate, read_weights])
def test_a_changed_script_that_reads_a_dropped_state(tmp_path, between):
    """It is refused with the way out, instead of going on with the weights of another moment."""
    with process():
        one_model(tmp_path, read_nothing)
    with process() as logs, pytest.raises(Refused):
        one_model(tmp_path, between)
    (entry,) = [log for log in logs if log["event"] == "refused"]
    assert entry["fit"] == 1
    assert "keep_fits" in entry["fix"]


def test_a_traced_function_counts_as_a_read(tmp_path):
    """Validation traces the test function within fit; a later evaluation reads by it."""

    def script(folder):
        set_seed(SEED)
        model = new_model()
        scores = []
        for number in range(3):
            x, y = data(number)
            held = [resumable(folder, [])]
            model.fit(x, y, validation_data=(x, y), verbose=0, callbacks=held)
            scores.append(model.evaluate(x, y, verbose=0))
        return scores

    with process():
        expected = script(tmp_path)
    assert with_variables(tmp_path) == [0, 1, 2]
    with process():
        assert script(tmp_path) == expected
