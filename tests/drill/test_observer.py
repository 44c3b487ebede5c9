"""The observer of a drill, in this process: it records a training, and is no part of it."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import keras
import numpy as np
import pytest

from keepfit import ModelCheckpoint, Resumable
from keepfit.callbacks.errors import Refused
from keepfit.callbacks.training.final_state import FinalState
from keepfit.callbacks.training.internals import KerasCalls
from keepfit.job.drill.child import digests
from keepfit.job.drill.child.interruption import Interruption
from keepfit.job.drill.child.observer import DrillEnded, Observer
from keepfit.job.drill.child.outside import address_outside, refuse_outside
from keepfit.job.drill.instructions import Instructions, Limit, Program
from keepfit.job.drill.moments import Course, EpochCourse, Hook, Place
from keepfit.job.drill.traces import TraceWriter, course_of, ends_of, read_records, starts_of

X = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
DATA = {"x": X, "y": X.sum(1), "batch_size": 8, "verbose": 0}


def build():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


@pytest.fixture
def observe(tmp_path, monkeypatch):
    """Return a function that observes a function which trains, and returns the records."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KEEPFIT_RUN", "observed")

    def run(train, *, kept=False, limit=None):
        path = tmp_path / "trace"
        store, home = f"file://{tmp_path}/store", str(tmp_path)
        trace = TraceWriter(str(path))
        instructions = Instructions(
            Program("train.py"), kept, str(path), store, home, home, None, limit, None, True
        )
        observer = Observer(instructions, trace, Interruption(None, trace))
        with KerasCalls.announced_to(observer):
            train()
        return list(read_records(path))

    return run


def test_a_training_is_recorded(observe):
    """Its fits, epochs, batches and validations; not what the script evaluates itself."""

    def train():
        model = build()
        model.fit(**DATA, epochs=2, validation_data=(X[:8], X[:8].sum(1)))
        model.evaluate(X, X.sum(1), verbose=0)
        model.fit(**DATA, epochs=1)

    records = observe(train)
    validated = tuple(EpochCourse(epoch, (0, 1), (0,)) for epoch in range(2))
    assert course_of(records) == Course((validated, (EpochCourse(0, (0, 1)),)))
    ends, starts = ends_of([records]), starts_of(records)
    assert list(ends) == list(starts) == [0, 1]
    assert ends[0].place.startswith("test_observer.py:")
    assert list(ends[0].history) == ["loss", "val_loss"]
    assert len(ends[0].history["loss"]) == 2
    kernel = "model/sequential/dense/kernel"
    assert ends[0].variables[kernel] == starts[1].variables[kernel] != ends[1].variables[kernel]


def test_an_observed_training_is_the_same(observe):
    """Bit by bit, as without an observer."""
    trained = []

    def train():
        model = build()
        trained.append((model, model.fit(**DATA, epochs=2).history))

    train()
    observe(train)
    (alone, expected), (observed, found) = trained
    assert found == expected
    for one, two in zip(alone.get_weights(), observed.get_weights(), strict=True):
        assert np.array_equal(one, two)


class Counter(keras.callbacks.Callback):
    """A callback of the user's own."""

    def __init__(self):
        super().__init__()
        self.batches = 0

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1


def test_resumable_does_nothing_in_plain_python(observe, tmp_path):
    """The callbacks inside it are called by Keras, and nothing is stored."""
    counter = Counter()
    observe(lambda: build().fit(**DATA, epochs=2, callbacks=[Resumable([counter])]))
    assert counter.batches == 4
    assert not (tmp_path / "store").exists()
    assert not (tmp_path / "runs").exists()


def test_the_store_of_the_script_is_replaced(observe, tmp_path):
    """No argument leads a drill to the store of real runs."""
    held = [Resumable(store=f"file://{tmp_path}/real")]
    records = observe(lambda: build().fit(**DATA, epochs=1, callbacks=held), kept=True)
    assert (tmp_path / "store/observed/HEAD.json").exists()
    assert not (tmp_path / "real").exists()
    assert list(ends_of([records])) == [0]


def test_a_list_that_the_script_has_made(observe):
    """It is observed as well, from its begin."""

    def train():
        model = build()
        held = keras.callbacks.CallbackList([Counter()], add_history=True, model=model)
        model.fit(**DATA, epochs=1, callbacks=held)

    assert course_of(observe(train)).fits == ((EpochCourse(0, (0, 1)),),)


@pytest.mark.parametrize(
    ("limit", "place"),
    [
        (Limit(batches=3), Place(0, 1, Hook.BATCH_END, 0)),
        (Limit(batches=5), Place(1, 0, Hook.BATCH_END, 0)),
        (Limit(epochs=2), Place(0, 1, Hook.EPOCH_END)),
    ],
)
def test_the_run_ends_at_its_limit(limit, place, observe):
    """Even if the script goes on: the next fit is ended when it begins."""

    def train():
        for _ in range(3):
            with suppress(DrillEnded):
                build().fit(**DATA, epochs=2)

    assert DrillEnded().code == 0
    records = observe(train, limit=limit)
    assert records[-1]["kind"] == "until"
    assert course_of(records).until == place
    end = ends_of([records])[place.fit]
    assert end.history["loss at the end"]
    assert end.variables


def test_digests_are_no_reads():
    """A final state that only the drill has looked at is not kept for the script."""
    model = build()
    state = FinalState(model, 0)
    assert digests.variables_of(model)
    assert not state.was_read
    model.get_weights()
    assert state.was_read


def test_digests_tell_states_apart():
    """Of variables and generators; a NumPy number is the same as Python's."""
    model = build()
    before, drawn = digests.variables_of(model), digests.generators()
    assert digests.variables_of(build()) == before
    model.layers[-1].kernel.assign_add(np.ones((4, 1)))
    changed = [n for n, d in digests.variables_of(model).items() if d != before[n]]
    assert len(changed) == 1
    np.random.random()
    assert [n for n, d in digests.generators().items() if d != drawn[n]] == ["numpy"]
    assert digests.as_text(np.float32(0.5)) == digests.as_text(0.5)


@pytest.mark.parametrize(
    ("kind", "address", "outside"),
    [
        ("ModelCheckpoint", "s3://bucket/best.keras", True),
        ("ModelCheckpoint", "/var/models/best.keras", True),
        ("ModelCheckpoint", "best.keras", False),
        ("ModelCheckpoint", "{home}/best.keras", False),
        ("CSVLogger", "/var/models/log.csv", True),
        ("TensorBoard", "/var/models/board", True),
        ("RemoteMonitor", "https://example.org", True),
        ("RemoteMonitor", "http://localhost:9000", False),
    ],
)
def test_callbacks_that_write_elsewhere(kind, address, outside, tmp_path):
    """A relative path, one in the folder and a server on this machine are fine."""
    address = address.format(home=tmp_path)
    callback = getattr(keras.callbacks, kind)(address)
    assert address_outside(callback, tmp_path) == (address if outside else None)


def test_an_upload_of_keepfit_is_elsewhere(tmp_path):
    """keepfit's own callbacks take addresses in S3."""
    callback = ModelCheckpoint("s3://bucket/best.keras")
    assert address_outside(callback, tmp_path) == "s3://bucket/best.keras"


def test_a_callback_of_the_script_may_read_elsewhere(tmp_path):
    """Its attributes don't say what it does with them."""
    counter = Counter()
    counter.words = "/usr/share/dict/words"
    refuse_outside([counter], tmp_path)


def test_the_refusal_names_the_callback(tmp_path, capsys):
    """And masks the secrets of its address."""
    callback = keras.callbacks.RemoteMonitor("https://user:topsecret@example.org")
    with pytest.raises(Refused):
        refuse_outside([callback], tmp_path)
    printed = "".join(capsys.readouterr())
    assert "RemoteMonitor" in printed
    assert "topsecret" not in printed


def test_instructions_are_the_same_after_json(tmp_path):
    """They are written for another process."""
    instructions = Instructions(
        Program("a.py", ("1", "--x"), options=("--exact",)),
        True,
        "trace",
        "file:///store",
        "/work",
        "/home",
        None,
        Limit(epochs=2),
        Place(1, 2, Hook.EPOCH_END),
    )
    path = Path(tmp_path / "instructions")
    instructions.write(path)
    json.loads(path.read_text())
    assert Instructions.read(path) == instructions
