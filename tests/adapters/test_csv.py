"""CSVLogger's file after an interruption: one header, each row once, nothing rewritten."""

from __future__ import annotations

import keras
import pytest

from keepfit.callbacks import events
from keepfit.callbacks.adapters.held_callbacks import HeldCallbacks
from tests.adapters.kept import restore, stored

CSVLogger = keras.callbacks.CSVLogger


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.csv"


class Stopped(Exception):
    """Raised to end a training, as the end of its process would."""


class StopAfter(keras.callbacks.Callback):
    """A callback that captures the state after `saved` epochs, and stops after `lost` more."""

    def __init__(self, held, saved, lost=0):
        super().__init__()
        self.held, self.saved, self.lost = held, saved, lost
        self.state = None

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self.saved:
            self.state = stored(self.held)
        if epoch + 1 == self.saved + self.lost:
            raise Stopped


class Resuming(keras.callbacks.Callback):
    """A callback that calls others as Resumable does."""

    def __init__(self, held, saved):
        super().__init__()
        self.held, self.saved = held, saved

    def on_train_begin(self, logs=None):
        with self.held.resuming_files(self.saved, {}):
            for item in self.held:
                item.callback.on_train_begin(logs)

    def on_epoch_begin(self, epoch, logs=None):
        if self.saved is not None:
            restore(self.held, self.saved)
            self.saved = None

    def on_epoch_end(self, epoch, logs=None):
        for item in self.held:
            item.callback.on_epoch_end(epoch, logs)

    def on_train_end(self, logs=None):
        for item in self.held:
            item.callback.on_train_end(logs)


def interrupted(train, logger, saved, lost=0):
    """Interrupt a training and return the captured state."""
    held = HeldCallbacks.hold([logger])
    stop = StopAfter(held, saved, lost)
    with pytest.raises(Stopped):
        train(logger, stop, epochs=9)
    logger.csv_file.close()
    return stop.state


def resumed(train, logger, saved, start, epochs=5):
    """Resume a training from this state."""
    train(Resuming(HeldCallbacks.hold([logger]), saved), epochs=epochs, start=start)


def epochs_in(path, separator=","):
    """Return the epochs in the file's rows; assert that it has one header."""
    header, *rows = path.read_text().splitlines()
    assert header.split(separator)[0] == "epoch"
    assert all(len(row.split(separator)) == len(header.split(separator)) for row in rows)
    return [int(row.split(separator)[0]) for row in rows]


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("lost", [0, 2])
def test_resumed_file(train, path, append, separator, lost):
    """Rows from after the checkpoint are truncated and written again; there is one header."""
    make = lambda: CSVLogger(path, separator, append)  # noqa: E731
    saved = interrupted(train, make(), 2, lost)
    assert len(epochs_in(path, separator)) == 2 + lost
    logger = make()
    resumed(train, logger, saved, 2)
    assert epochs_in(path, separator) == [0, 1, 2, 3, 4]
    assert logger.append is append
    assert logger.csv_file.closed


def test_before_the_first_row(train, path):
    """The header is written with the first row, once."""
    logger = CSVLogger(path)
    held = HeldCallbacks.hold([logger])
    logger.on_train_begin()
    saved = stored(held)
    logger.csv_file.close()
    resumed(train, CSVLogger(path), saved, 0, epochs=2)
    assert epochs_in(path) == [0, 1]


def test_log_of_an_earlier_run_is_kept(train, path):
    """Content from before the run stays in an appended file, above the run's own rows."""
    path.write_text("epoch,loss,val_loss\n7,0.5,0.5\n")
    saved = interrupted(train, CSVLogger(path, append=True), 1, 2)
    resumed(train, CSVLogger(path, append=True), saved, 1, epochs=3)
    assert epochs_in(path) == [7, 0, 1, 2]


def test_short_file(train, path, logged):
    """A file that has lost rows is reported as an error, and training continues."""
    saved = interrupted(train, CSVLogger(path), 3)
    size = path.stat().st_size
    path.write_text("epoch,loss,val_loss\n")
    resumed(train, CSVLogger(path), saved, 3)
    (entry,) = logged
    assert (entry["event"], entry["log_level"]) == (events.FILE_TOO_SHORT, "error")
    assert (entry["file"], entry["bytes"], entry["expected"]) == (str(path), 20, size)
    assert epochs_in(path) == [3, 4]


def test_missing_file(train, path, logged):
    """A missing file is reported as an error; the new one has a header."""
    saved = interrupted(train, CSVLogger(path), 2)
    path.unlink()
    resumed(train, CSVLogger(path), saved, 2)
    assert [entry["event"] for entry in logged] == [events.FILE_TOO_SHORT]
    assert epochs_in(path) == [2, 3, 4]


def test_keys_are_those_of_the_first_row(train, path):
    """The columns do not change, even if later epochs have other metrics."""
    saved = interrupted(train, CSVLogger(path), 2)
    assert saved[0]["state"]["keys"] == ["loss", "val_loss"]
    logger = CSVLogger(path)
    held = HeldCallbacks.hold([logger])
    with held.resuming_files(saved, {}):
        logger.on_train_begin()
    restore(held, saved)
    logger.on_epoch_end(2, {"loss": 1.0, "accuracy": 0.5})
    logger.on_train_end()
    assert path.read_text().splitlines()[-1] == "2,1.0,NA"
    assert epochs_in(path) == [0, 1, 2]


def test_two_loggers(train, tmp_path):
    """Each logger continues its own file."""
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    loggers = [CSVLogger(path) for path in paths]
    held = HeldCallbacks.hold(loggers)
    stop = StopAfter(held, 2, 1)
    with pytest.raises(Stopped):
        train(*loggers, stop, epochs=9)
    for logger in loggers:
        logger.csv_file.close()
    train(
        Resuming(HeldCallbacks.hold([CSVLogger(path) for path in paths]), stop.state),
        epochs=4,
        start=2,
    )
    assert [epochs_in(path) for path in paths] == [[0, 1, 2, 3]] * 2
    assert list(held.append_only_files()) == [str(path) for path in paths]


def test_interrupted_twice(train, path):
    """The second resume truncates to the second checkpoint."""
    saved = interrupted(train, CSVLogger(path), 1, 1)
    logger = CSVLogger(path)
    held = HeldCallbacks.hold([logger])
    stop = StopAfter(held, 3, 1)
    with pytest.raises(Stopped):
        train(Resuming(held, saved), stop, epochs=9, start=1)
    logger.csv_file.close()
    resumed(train, CSVLogger(path), stop.state, 3)
    assert epochs_in(path) == [0, 1, 2, 3, 4]
