"""A finished fit that is asked for more epochs ends as one that was asked for them at once."""

from __future__ import annotations

import csv
import dataclasses
import gc

import keras
import numpy as np
import pytest

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.read.documents import read_head
from keepfit.callbacks.errors import Preempted, Refused
from keepfit.callbacks.storage.local import LocalStore
from tests.adapters.test_files import assert_same_events, events_in
from tests.checkpoint.samples import document_at, write_document
from tests.training.trainings import (
    BATCH,
    BATCHES,
    ROWS,
    SEED,
    Counter,
    Failing,
    GiveNotice,
    ScriptError,
    Training,
    all_variables,
    arrays,
    assert_same,
    attempt,
    endless,
    fitted,
    from_arrays,
    of_unknown_length,
    preempted,
    process,
    resumable,
    set_seed,
    small,
    twice_as_long,
    whole,
)


class Rows(keras.utils.PyDataset):
    """A PyDataset that Keras shuffles, and that reorders its rows after each epoch."""

    def __init__(self):
        super().__init__()
        self.order = np.arange(ROWS)

    def __len__(self):
        return BATCHES

    def __getitem__(self, index):
        x, y = arrays()
        rows = self.order[index * BATCH : (index + 1) * BATCH]
        return x[rows], y[rows]

    def on_epoch_end(self):
        self.order = np.roll(self.order, 3)


def plateau():
    """ReduceLROnPlateau, which reduces the rate soon, and a callback that counts all hooks."""
    return [keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1), Counter()]


def schedule():
    """A learning rate that depends on itself."""
    return [keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)]


def ema():
    """A model whose weights are replaced by their averages when the fit ends."""
    return small(keras.optimizers.SGD(0.05, use_ema=True, ema_overwrite_frequency=None))


TRAININGS = {
    "shuffled dataset": Training(held=lambda: [Counter()]),
    "arrays": Training(held=plateau, data=from_arrays, validated=False),
    "endless": Training(held=schedule, data=endless, fit={"steps_per_epoch": 4}),
    "two epochs a pass": Training(
        held=plateau, data=twice_as_long, validated=False, fit={"steps_per_epoch": 5}
    ),
    "unknown length": Training(held=plateau, data=of_unknown_length, validated=False),
    "unknown length, validated": Training(held=plateau, data=of_unknown_length),
    "PyDataset": Training(
        held=plateau, data=lambda: {"x": Rows(), "shuffle": True}, validated=False
    ),
    "validation_freq": Training(held=plateau, fit={"validation_freq": 2}),
    "averages": Training(model=ema, validated=False, fit={}),
    "swapped averages": Training(model=ema, held=lambda: [keras.callbacks.SwapEMAWeights()]),
    "steps_per_execution": Training(
        model=lambda: small(steps_per_execution=4), held=plateau, validated=False, fit={}
    ),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_more_epochs(tmp_path, name):
    """3 epochs, then 5: equal to 5 at once, data order and random state included."""
    training = dataclasses.replace(TRAININGS[name], fit={**TRAININGS[name].fit, "epochs": 5})
    attempt(training, tmp_path, epochs=3)
    further = attempt(training, tmp_path)
    (line,) = further.named(events.MORE_EPOCHS)
    assert line["log_level"] == "info"
    assert "epoch 3 to 5" in line["fix"]
    assert_same(further, whole(training))


def test_more_epochs_again_and_again(tmp_path):
    """A fit that has trained on can train on again; with nothing more asked for, it is returned."""
    training = Training(held=lambda: [Counter()], fit={"epochs": 6})
    for epochs in (1, 2, 3):
        attempt(training, tmp_path, epochs=epochs)
    assert_same(attempt(training, tmp_path), whole(training))
    again = attempt(training, tmp_path)
    assert_same(again, whole(training))
    assert not again.named(events.MORE_EPOCHS)
    assert not again.named(events.RESUMED)


@pytest.mark.parametrize("hook", [("on_train_batch_end", 3), ("on_epoch_end", 1)])
def test_interrupted_while_it_trains_on(tmp_path, hook):
    """A notice, and then an error, after a finished fit was asked for more: the result is equal."""
    training = Training(held=lambda: [Counter()], fit={"epochs": 6})
    attempt(training, tmp_path, epochs=3)
    preempted(training, tmp_path, *hook)
    with pytest.raises(ScriptError):
        attempt(training, tmp_path, Failing("on_train_batch_end", 2), save_every="1 batch")
    assert_same(attempt(training, tmp_path), whole(training))


def early(patience, **more):
    """EarlyStopping that soon stops the training of `noisy`, and a callback that counts hooks."""

    def held():
        stop = keras.callbacks.EarlyStopping("val_loss", patience=patience, **more)
        return [stop, Counter()]

    return held


def noisy(held):
    """A training whose validation loss goes up and down."""
    optimizer = lambda: small(keras.optimizers.SGD(0.8, momentum=0.9))  # noqa: E731
    return Training(model=optimizer, held=held, fit={"epochs": 9})


def stopped_early(held):
    return held[0].stopped_epoch


@pytest.mark.parametrize("best", [False, True])
def test_more_patience(tmp_path, best):
    """EarlyStopping that would not have stopped there goes on, with its state."""
    first = attempt(noisy(early(0, restore_best_weights=best)), tmp_path)
    assert 0 < stopped_early(first.held) < 7
    more = noisy(early(2, restore_best_weights=best))
    expected = whole(more)
    assert len(expected.epochs) > len(first.epochs)
    assert_same(attempt(more, tmp_path), expected)


def test_early_stopping_is_removed(tmp_path):
    """Without the callback that has stopped it, the fit goes on to its last epoch."""
    first = attempt(noisy(early(0)), tmp_path)
    assert len(first.epochs) < 9
    without = noisy(lambda: [Counter()])
    assert_same(attempt(without, tmp_path), whole(without))


def test_more_epochs_for_a_fit_that_was_stopped(tmp_path):
    """With the same EarlyStopping it would stop there again: the log says so, nothing changes."""
    first = attempt(noisy(early(0)), tmp_path)
    again = attempt(noisy(early(0)), tmp_path, epochs=20)
    assert_same(again, first)
    (line,) = again.named(events.MORE_EPOCHS)
    assert "EarlyStopping has stopped the run in epoch" in line["reason"]
    assert not again.named(events.RESUMED)


class Limit(keras.callbacks.Callback):
    """A user's own callback that stops training."""

    def __init__(self, last):
        super().__init__()
        self.last = last

    def on_epoch_end(self, epoch, logs=None):
        if epoch >= self.last:
            self.model.stop_training = True


def test_own_callback_with_another_configuration(tmp_path):
    """It decides again with its new configuration."""
    training = [Training(held=lambda n=n: [Limit(n), Counter()], validated=False) for n in (0, 1)]
    attempt(training[0], tmp_path)
    assert_same(attempt(training[1], tmp_path), whole(training[1]))


def test_own_callback_that_stops_again(tmp_path):
    """A configuration that makes no difference: the log says so, and the result is the same."""
    training = [Training(held=lambda n=n: [Limit(n)], validated=False) for n in (0, -1)]
    first = attempt(training[0], tmp_path)
    again = attempt(training[1], tmp_path)
    assert again.variables == first.variables
    assert again.history == first.history
    assert (
        "Limit has stopped the run in epoch 1 again" in again.named(events.MORE_EPOCHS)[1]["reason"]
    )


def test_stopped_within_an_epoch(tmp_path):
    """What was stopped between two batches stays stopped."""

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 2

    training = Training(held=lambda: [Stop()])
    first = attempt(training, tmp_path)
    again = attempt(training, tmp_path, epochs=9)
    assert_same(again, first)
    assert continuations(tmp_path) == {}
    assert "Stop has stopped the run in epoch 1" in again.named(events.MORE_EPOCHS)[0]["reason"]


def test_less_patience_and_fewer_epochs(tmp_path):
    """What is done stays done, and the log says so."""
    attempt(noisy(early(50)), tmp_path)
    for changed in ({"epochs": 4}, {}):
        again = attempt(noisy(early(1)), tmp_path, **changed)
        assert len(again.epochs) == 9
        assert again.named(events.FEWER_EPOCHS)


def test_another_meaning_of_the_epochs_before(tmp_path):
    """EarlyStopping with another min_delta might have stopped before: refused, with the way out."""
    attempt(noisy(early(0)), tmp_path)
    training = noisy(early(0, min_delta=0.5))
    held = [resumable(tmp_path, training.held())]
    with process() as logs, pytest.raises(Refused):
        fitted(training, training.model(), held)
    (line,) = [log for log in logs if log["event"] == events.REFUSED]
    assert "EarlyStopping: min_delta was 0" in line["reason"]
    assert "--fresh" in line["fix"]


def test_a_notice_at_the_end_of_the_fit(tmp_path):
    """The continuation is not waited for; the fit goes on from the checkpoint before its end."""
    training = Training(held=lambda: [Counter()], fit={"epochs": 5})
    set_seed(SEED)
    held = [*training.held(), GiveNotice("on_train_end", 1)]
    callback = resumable(tmp_path, held, save_every="2 batches")
    with process() as logs, pytest.raises(Preempted):
        fitted(training, training.model(), [callback], epochs=3)
    (line,) = [log for log in logs if log["event"] == events.CONTINUATION_UNSAVED]
    assert "notice" in line["reason"]
    assert continuations(tmp_path) == {}
    further = attempt(training, tmp_path)
    assert further.named(events.RESUMED)
    assert_same(further, whole(training))


def drop_continuation(folder):
    """Make the run one of keepfit 0.1, of which only the final state is there."""
    path = folder / "run/HEAD.json"
    head = document_at(path)
    del head["continuations"]
    write_document(path, head | {"checkpoints": [*head["finished"].values()]})


def test_without_any_state_before_the_end(tmp_path):
    """As in a store of keepfit 0.1: the old result, and a warning that names the way out."""
    training = Training(fit={"epochs": 6})
    first = attempt(training, tmp_path, epochs=3)
    drop_continuation(tmp_path)
    again = attempt(training, tmp_path)
    assert again.variables == first.variables
    assert again.history == first.history
    (line,) = again.named(events.MORE_EPOCHS)
    assert line["log_level"] == "warning"
    assert "--fresh" in line["fix"]


def test_a_damaged_continuation(tmp_path):
    """It is rejected, and the fit goes on from the checkpoint before it."""
    training = Training(fit={"epochs": 5})
    attempt(training, tmp_path, epochs=3, save_every="2 batches")
    (key,) = continuations(tmp_path).values()
    (tmp_path / key).write_bytes(b"{}")
    further = attempt(training, tmp_path)
    assert further.named(events.CHECKPOINT_REJECTED)
    assert_same(further, whole(training))


def continuations(folder):
    """Return HEAD's continuations."""
    return read_head(LocalStore(folder), "run").head.continuations


def logged(folder):
    """Callbacks that write files of all kinds."""
    return lambda: [
        keras.callbacks.CSVLogger(f"{folder}/log.csv"),
        keras.callbacks.ModelCheckpoint(
            f"{folder}/best.weights.h5", "val_loss", save_best_only=True, save_weights_only=True
        ),
        keras.callbacks.ModelCheckpoint(
            f"{folder}/each-{{epoch}}.weights.h5", save_weights_only=True
        ),
        keras.callbacks.TensorBoard(f"{folder}/board", update_freq=2),
    ]


@pytest.mark.parametrize("moved", [False, True])
def test_files(tmp_path, moved, monkeypatch):
    """Logs and models are those of the longer run, on the same machine and on an empty one."""
    monkeypatch.chdir(tmp_path)
    training = Training(held=logged("files"), fit={"epochs": 6})
    (tmp_path / "whole").mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    expected = whole(training)
    (tmp_path / "cut").mkdir()
    monkeypatch.chdir(tmp_path / "cut")
    attempt(training, tmp_path / "store", epochs=3)
    if moved:
        (tmp_path / "other").mkdir()
        monkeypatch.chdir(tmp_path / "other")
    actual = attempt(training, tmp_path / "store")
    assert actual.variables == expected.variables
    assert not actual.named(events.FILE_DELAYED)
    here, there = tmp_path / ("other" if moved else "cut"), tmp_path / "whole"
    names = ["log.csv", "best.weights.h5", *(f"each-{n}.weights.h5" for n in range(4, 7))]
    for name in names:
        one, other = here / "files" / name, there / "files" / name
        if name.endswith("csv"):
            assert one.read_bytes() == other.read_bytes()
            assert len(list(csv.reader(one.open()))) == 7
        else:
            assert weights_in(one) == weights_in(other)
    assert_same_events(events_in(here / "files/board"), events_in(there / "files/board"))


def weights_in(path):
    """Return the weights in a file of ModelCheckpoint."""
    model = small()
    model.load_weights(path)
    return [weight.tolist() for weight in model.get_weights()]


def folds(folder, epochs, seed_each=True, one_model=False, log=None):
    """Two fits, of new models or of one; return their histories, weights and log lines."""
    set_seed(SEED)
    results, model = [], small()
    for fold in range(2):
        if seed_each:
            set_seed(fold)
        model = model if one_model else small()
        x, y = arrays(seed=fold)
        held = [keras.callbacks.CSVLogger(log, append=True)] if log else []
        callback = held if folder is None else [resumable(folder, held)]
        history = model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=callback)
        results.append((history.history, all_variables(model), model.evaluate(x, y, verbose=0)))
        gc.collect()
    return results


@pytest.mark.parametrize(("seed_each", "one_model"), [(True, False), (False, True)])
def test_several_fits(tmp_path, seed_each, one_model, monkeypatch):
    """Each fit has the result, and the shared log the rows, of the script with more epochs."""
    monkeypatch.chdir(tmp_path)
    with process():
        folds(tmp_path / "store", 2, seed_each, one_model, "cut.csv")
    with process():
        expected = folds(None, 4, seed_each, one_model, "whole.csv")
    for _ in range(2):
        with process():
            assert folds(tmp_path / "store", 4, seed_each, one_model, "cut.csv") == expected
        assert (tmp_path / "cut.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_the_store_stays_bounded(tmp_path):
    """Of the fits in a loop, one continuation is kept, as long as final states are dropped."""
    for fits in (4, 12):
        with process():
            set_seed(SEED)
            model = small()
            x, y = arrays()
            for _ in range(fits):
                held = [resumable(tmp_path / str(fits), [])]
                model.fit(x, y, batch_size=BATCH, verbose=0, callbacks=held)
        assert list(continuations(tmp_path / str(fits))) == [fits - 1]


def test_a_loop_of_fits_that_is_asked_for_more(tmp_path):
    """The first fits can't train on any more, so the last one does not either: refused."""

    def script(epochs):
        set_seed(SEED)
        model = small()
        for _ in range(3):
            held = [resumable(tmp_path, [])]
            model.fit(*arrays(), batch_size=BATCH, epochs=epochs, verbose=0, callbacks=held)

    with process():
        script(1)
    with process() as logs, pytest.raises(Refused):
        script(2)
    lines = [log for log in logs if log["event"] in (events.MORE_EPOCHS, events.REFUSED)]
    assert [line["log_level"] for line in lines] == ["warning", "error"]
    assert "--fresh" in lines[-1]["fix"]
