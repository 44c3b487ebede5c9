"""Callbacks that stand beside Resumable in the same `fit`, where a library may have added them."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import pytest

import keepfit
from keepfit import Resumable
from keepfit.callbacks import events
from keepfit.callbacks.errors import Preempted
from tests.training.trainings import (
    BATCH,
    SEED,
    Counter,
    GiveNotice,
    Outcome,
    Training,
    arrays,
    assert_same,
    fitted,
    outcome,
    process,
    resumable,
    set_seed,
    small,
    whole,
)

HOOKS = [
    f"on_{part}_{moment}"
    for part in ("train", "epoch", "train_batch", "test", "test_batch")
    for moment in ("begin", "end")
]


class Before(Counter):
    """A counter of a class of its own."""


class After(Counter):
    """A counter of a class of its own."""


def stopping() -> Any:
    """Return the early stopping that a tuner adds."""
    return keras.callbacks.EarlyStopping("val_loss", patience=2)


@dataclass(frozen=True)
class Arrangement:
    """The callbacks of a script: before, inside and after Resumable."""

    before: Callable[[], list[Any]] = list
    inside: Callable[[], list[Any]] = list
    after: Callable[[], list[Any]] = list

    def all(self) -> list[Any]:
        """Return the callbacks in their order, without Resumable."""
        return [*self.before(), *self.inside(), *self.after()]

    def attempt(self, folder: Any, *notice: Any, **changed: Any) -> Outcome:
        """Make one attempt in a simulated process; a notice comes in the n-th call of a hook."""
        with process() as logs:
            set_seed(SEED)
            model, parts = small(), (self.before(), self.inside(), self.after())
            before, inside, after = parts
            notices = [GiveNotice(*notice)] if notice else []
            callback = resumable(folder, [*inside, *notices])
            fitted(Training(), model, [*before, callback, *after], **changed)
            return outcome(model, [*before, *inside, *after], logs)


COUNTERS = Arrangement(
    before=lambda: [Before(), stopping()],
    inside=lambda: [Counter()],
    after=lambda: [After(), keras.callbacks.History()],
)
MOMENTS = [
    ("on_train_batch_end", 1),
    ("on_train_batch_end", 7),
    ("on_epoch_end", 2),
    ("on_test_batch_end", 4),
]


@pytest.mark.parametrize("moment", MOMENTS, ids=str)
def test_they_see_each_batch_once(tmp_path, moment):
    """Their state, and all that depends on it, is that of a fit without Resumable."""
    with pytest.raises(Preempted):
        COUNTERS.attempt(tmp_path, *moment)
    resumed = COUNTERS.attempt(tmp_path)
    assert_same(resumed, whole(Training(held=COUNTERS.all)))


def test_order_of_calls(tmp_path):
    """All hooks are called in the order of a fit with the same callbacks and no Resumable."""
    calls: list[str] = []

    class Recording(keras.callbacks.Callback):
        def __init__(self, name):
            super().__init__()
            for hook in HOOKS:
                setattr(self, hook, lambda *_, hook=hook, **__: calls.append(f"{hook} {name}"))

    def recording(*names):
        return lambda: [Recording(name) for name in names]

    arrangement = Arrangement(recording("a", "b"), recording("c"), recording("d"))
    arrangement.attempt(tmp_path)
    with_resumable, calls[:] = list(calls), []
    whole(Training(held=arrangement.all))
    assert with_resumable == calls


def files_in(folder: Path) -> set[str]:
    """Return the names of the files; event files, which contain a time, without their numbers."""
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {"board" if "tfevents" in name else name for name in names}


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("finished", [False, True])
def test_their_files_are_kept(tmp_path, place, finished):
    """A machine without their files gets them back, also those of a fit that is passed over."""
    files = tmp_path / "files"

    def writers():
        files.mkdir(exist_ok=True)
        return [
            keras.callbacks.CSVLogger(files / "log.csv"),
            keras.callbacks.ModelCheckpoint(files / "{epoch}.weights.h5", save_weights_only=True),
            keras.callbacks.TensorBoard(files / "board"),
        ]

    arrangement = Arrangement(**{place: writers})
    if finished:
        arrangement.attempt(tmp_path / "store")
    else:
        with pytest.raises(Preempted):
            arrangement.attempt(tmp_path / "store", "on_train_batch_end", 12)
    tagged = [path for path in files.rglob("*tfevents*") if ".keepfit-" in path.name]
    assert tagged == [*files.rglob("*tfevents*")], "Keras has written its own before Resumable"
    shutil.rmtree(files)
    resumed = arrangement.attempt(tmp_path / "store")
    rows = (files / "log.csv").read_text().split()
    assert [row.split(",")[0] for row in rows] == ["epoch", "0", "1", "2"]
    assert {"1.weights.h5", "2.weights.h5", "3.weights.h5", "log.csv", "board"} == files_in(files)
    assert all(callback.model is resumed.model for callback in resumed.held)


def test_a_finished_fit_leaves_their_state(tmp_path):
    """A fit that is passed over leaves their state as it was after the fit."""
    first = COUNTERS.attempt(tmp_path)
    assert_same(COUNTERS.attempt(tmp_path), first)


def test_validation_outside_of_the_fit(tmp_path):
    """Callbacks beside Resumable belong to one fit: a later evaluation calls its own alone."""
    seen = []

    class Seen(keras.callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            seen.append(self)

    fails = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: 1 / 0)
    with process():
        model, callback, first, second = small(), resumable(tmp_path, []), Seen(), Seen()
        with pytest.raises(ZeroDivisionError):
            fitted(Training(), model, [first, callback, fails])
        model.evaluate(*arrays(BATCH), verbose=0, callbacks=[callback, second])
        assert seen == [second]
        fitted(Training(validated=False), model, [first, callback])
        model.evaluate(*arrays(BATCH), verbose=0, callbacks=callback)
        fitted(Training(validated=False), model, callback)
        assert seen == [second]


def test_a_list_that_the_script_has_made(tmp_path):
    """Keras has called its hooks already: they are left as they are, and named in the log."""
    with process() as logs:
        model, counter = small(), Counter()
        made = keras.callbacks.CallbackList(
            [counter, resumable(tmp_path, [])], add_history=True, model=model, epochs=3
        )
        fitted(Training(), model, made)
    (entry,) = [log for log in logs if log["event"] == events.CALLBACK_OUTSIDE]
    assert entry["callbacks"] == ["Counter"]
    assert [call for call in counter.seen if call.startswith("epoch 2")] == ["epoch 2"]


def test_a_copy(tmp_path):
    """It is a Resumable of its own, with the settings of the original and copied callbacks."""

    class Named(Resumable):
        title = ""

    original = Named([Counter(), stopping()], store=f"file://{tmp_path}", run="a", keep=2)
    original.title = ["one"]
    (twin,) = copy.deepcopy([original])
    assert type(twin) is Named
    assert twin.settings == original.settings
    assert (twin.title, twin.title is original.title) == (["one"], False)
    assert [type(c) for c in twin.callbacks] == [Counter, keras.callbacks.EarlyStopping]
    with process():
        fitted(Training(), small(), [twin])
    assert twin.callbacks[0].seen
    assert original.callbacks[0].seen == []


def test_copies_that_train(tmp_path):
    """A copy that is made before each fit resumes as the original would."""

    def fits(*notice):
        with process():
            set_seed(SEED)
            original = resumable(tmp_path, [Counter(), *([GiveNotice(*notice)] if notice else [])])
            models, twins = [small(), small()], []
            for model in models:
                twins.append(copy.deepcopy(original))
                fitted(Training(), model, [twins[-1]])
            return [
                outcome(model, twin.callbacks[:1], [])
                for model, twin in zip(models, twins, strict=True)
            ]

    expected = fits()
    shutil.rmtree(tmp_path)
    for _ in range(3):  # twice in the first fit, once in the second one
        with pytest.raises(Preempted):
            fits("on_train_batch_end", 7)
    for found, wanted in zip(fits(), expected, strict=True):
        assert_same(found, wanted)


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: keepfit.CSVLogger(str(folder / "log.csv")),
        lambda folder: keepfit.CSVLogger("s3://bucket/log.csv"),
        lambda folder: keepfit.ModelCheckpoint("s3://bucket/model.keras"),
        lambda folder: keepfit.RemoteMonitor("http://127.0.0.1:9"),
        lambda folder: keepfit.TensorBoard(str(folder)),
    ],
    ids=["csv", "csv in s3", "checkpoint in s3", "monitor", "tensorboard"],
)
def test_copies_of_keepfits_own(tmp_path, make):
    """They can be copied, inside Resumable and alone."""
    callback = make(tmp_path)
    assert type(copy.deepcopy(callback)) is type(callback)
    (twin,) = copy.deepcopy(resumable(tmp_path, [callback])).callbacks
    assert type(twin) is type(callback)
