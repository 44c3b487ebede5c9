"""Files that hooks open themselves in mode "a", and logs: each line once after an interruption."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import weakref
from logging.handlers import RotatingFileHandler
from pathlib import Path

import keras
import pytest

from keepfit.callbacks import events
from keepfit.callbacks.adapters.appended_files import AppendedFiles, AppendingFit
from keepfit.callbacks.adapters.log_files import LOG_FILES
from keepfit.callbacks.files.append_opens import AppendOpens, append_opens
from keepfit.callbacks.logs.logger import capture_logs
from tests.training.trainings import Failing, ScriptError, Training, attempt, preempted

LOGGER = logging.getLogger("tests.appended")


class Appending(keras.callbacks.Callback):
    """A callback that opens its file for each epoch, and logs each epoch."""

    def on_train_begin(self, logs=None):
        with Path("begun.txt").open("a") as file:
            file.write("begun\n")

    def on_epoch_end(self, epoch, logs=None):
        with open("epochs.txt", "a") as file:  # as scripts do
            file.write(f"epoch {epoch}\n")
        LOGGER.warning("epoch %d", epoch)


TRAINING = Training(held=lambda: [Appending()], validated=False)
EPOCHS = "epoch 0\nepoch 1\nepoch 2\n"


@pytest.fixture(autouse=True)
def workdir(tmp_path, monkeypatch):
    """Change to a temporary folder, and stop listening afterwards."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    append_opens().stop()


@pytest.fixture
def logfile(workdir):
    """Let a handler write the log of the test to a file."""
    handler = logging.FileHandler(workdir / "train.log")
    LOGGER.addHandler(handler)
    yield workdir / "train.log"
    LOGGER.removeHandler(handler)
    handler.close()


def contents():
    """Return the files that the training has written."""
    return Path("epochs.txt").read_text(), Path("begun.txt").read_text()


def test_an_older_checkpoint(workdir, logfile):
    """What was appended after the checkpoint is cut off; saves before the next epoch keep that."""
    Path("epochs.txt").write_text("before\n")
    logfile.write_text("before\n")
    preempted(TRAINING, "runs", "on_train_batch_end", 7)
    shutil.copytree("runs", "older")
    preempted(TRAINING, "runs", "on_train_batch_end", 5)
    assert Path("epochs.txt").read_text() == "before\nepoch 0\nepoch 1\n"
    preempted(TRAINING, "older", "on_train_batch_end", 1)
    with capture_logs() as logs:
        attempt(TRAINING, "older")
    assert contents() == (f"before\n{EPOCHS}", "begun\n")
    assert logfile.read_text() == f"before\n{EPOCHS}"
    assert not [entry for entry in logs if entry["log_level"] != "info"]


def test_another_machine(workdir):
    """The content of the checkpoint is restored when the script opens its file."""
    preempted(TRAINING, "runs", "on_train_batch_end", 12)
    Path("epochs.txt").unlink()
    Path("begun.txt").unlink()
    attempt(TRAINING, "runs")
    assert contents() == (EPOCHS, "begun\n")


def test_a_crash_before_the_first_checkpoint(workdir, logfile):
    """The next attempt starts over, from the files as they were before the first one."""
    Path("epochs.txt").write_text("before\n")
    logfile.write_text("before\n")
    with pytest.raises(ScriptError):
        attempt(TRAINING, "runs", Failing("on_train_batch_end", 7))
    LOGGER.warning("an error")
    attempt(TRAINING, "runs")
    assert contents() == (f"before\n{EPOCHS}", "begun\n")
    assert logfile.read_text() == f"before\n{EPOCHS}"


class Following:
    """Files of a fit that runs, with the paths that were cut back."""

    def __init__(self, kept="", sizes=None):
        self.cut, self.running = [], True
        self.files = AppendedFiles()
        self.files.begin(
            AppendingFit(
                lambda: self.running,
                lambda path: path == kept,
                self.cut.append,
                sizes or {},
            )
        )


def append(path):
    """Append a line to a file."""
    with open(path, "a") as file:  # as scripts do
        file.write("x\n")


def test_what_counts(workdir):
    """Each file once, before it is opened, however it is opened; not those of other adapters."""
    following = Following(kept="kept.txt")
    for _ in range(2):
        append("one.txt")
    Path("two.txt").open("ab").close()
    os.close(os.open("three.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    append("kept.txt")
    append(os.devnull)
    Path("new.txt").write_text("not appended")
    Path("new.txt").read_text()
    assert following.cut == ["one.txt", "two.txt", "three.txt"]
    assert following.files.sizes() == {"one.txt": 4, "two.txt": 0, "three.txt": 0}


def test_other_threads_and_processes(workdir):
    """What runs beside training is not repeated after a checkpoint, so its files are left alone."""
    following = Following()
    thread = threading.Thread(target=append, args=("one.txt",))
    thread.start()
    thread.join()
    assert following.cut == []


def test_after_the_fit(workdir):
    """Nothing is cut after a fit, also one that an error has ended."""
    following = Following()
    following.running = False
    append("one.txt")
    assert following.cut == []
    assert following.files.sizes() == {}
    following = Following()
    following.files.end()
    append("one.txt")
    assert following.cut == []


def test_files_that_are_not_opened_yet(workdir):
    """They stay in the checkpoints with the size of the one that is resumed, unless kept."""
    following = Following(kept="kept.txt", sizes={"one.txt": 9, "kept.txt": 3})
    assert following.files.sizes() == {"one.txt": 9}
    append("one.txt")
    assert following.files.sizes() == {"one.txt": 2}


def test_a_file_without_a_path(workdir, logged, monkeypatch):
    """It is named once in a process."""
    monkeypatch.setattr(append_opens(), "named", set())
    following = Following()
    for _ in range(2):
        os.fdopen(os.open("one.txt", os.O_WRONLY | os.O_CREAT), "a").close()
    assert following.cut == []
    (entry,) = logged
    assert entry["event"] == events.FILE_UNNAMED


def test_the_listener_is_not_kept_alive():
    """A fit that an error has ended does not keep its model in memory."""
    watch, files = AppendOpens(), AppendedFiles()
    watch.listen(files.opening)
    alive = weakref.ref(files)
    del files
    assert alive() is None
    watch.opens("x", os.O_APPEND)


def test_a_rotating_log(workdir, logged, monkeypatch):
    """It is named once, and left as it is."""
    monkeypatch.setattr(append_opens(), "named", set())
    handler = RotatingFileHandler("rotating.log")
    LOGGER.addHandler(handler)
    try:
        LOGGER.warning("a line")
        path = str(workdir / "rotating.log")
        for _ in range(2):
            with LOG_FILES.starting(None, {path: 0}), LOG_FILES.resuming(None, {}, {path: 0}):
                assert not LOG_FILES.may_write(None, path)
    finally:
        LOGGER.removeHandler(handler)
        handler.close()
    assert Path("rotating.log").read_text() == "a line\n"
    assert [(e["event"], e["file"]) for e in logged] == [(events.LOG_ROTATES, path)]


def test_a_log_that_is_written_from_its_start(workdir):
    """A handler in mode "w" goes on at the end of what is kept."""
    handler = logging.FileHandler("new.log", mode="w")
    LOGGER.addHandler(handler)
    try:
        for line in range(3):
            LOGGER.warning("line %d", line)
        with LOG_FILES.resuming(None, {}, {handler.baseFilename: len("line 0\n")}):
            pass
        LOGGER.warning("on")
    finally:
        LOGGER.removeHandler(handler)
        handler.close()
    assert Path("new.log").read_text() == "line 0\non\n"
