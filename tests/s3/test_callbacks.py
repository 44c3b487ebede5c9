"""Callbacks with s3:// paths: whole objects, uploaded by a thread, across any interruption."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from pathlib import Path

import keras
import pytest

import keepfit
from keepfit.callbacks import events
from keepfit.callbacks.errors import ConfigurationError
from keepfit.callbacks.files.uploads import working_copy
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.storage.base import StorageError
from keepfit.callbacks.storage.s3.transfer import Transfer
from tests.adapters.test_files import arrays_in, assert_same_events, events_in, named
from tests.training.trainings import Training, attempt, preempted, whole

MOMENTS = [("on_train_batch_end", 7), ("on_test_batch_end", 4), ("on_epoch_end", 2)]


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """Give the test a disk of its own; return a function that replaces it by an empty one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(disk))

    def another():
        shutil.rmtree(disk)
        disk.mkdir()

    return another


@pytest.fixture
def url(bucket):
    """Return an unused address in S3."""
    return f"{bucket}/{uuid.uuid4().hex}"


def downloaded(url, folder):
    """Download all objects below `url` into a new folder, and return it."""
    transfer = Transfer.open()
    folder.mkdir()
    for name in transfer.sizes(url):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        transfer.download(f"{url}/{name}", str(folder / name))
    return folder


def interrupted(training, store, machine, moment):
    """Interrupt the training once, and resume it on another machine."""
    preempted(training, store, *moment)
    machine()
    attempt(training, store)


@pytest.mark.parametrize("moment", MOMENTS)
def test_csv_logger(tmp_path, url, machine, moment):
    """The object equals the file that Keras writes without an interruption."""
    whole(Training(held=lambda: [keras.callbacks.CSVLogger(tmp_path / "log.csv")]))
    training = Training(held=lambda: [keepfit.CSVLogger(f"{url}/log.csv")])
    interrupted(training, tmp_path / "store", machine, moment)
    found = downloaded(url, tmp_path / "found") / "log.csv"
    assert found.read_bytes() == (tmp_path / "log.csv").read_bytes()


def test_csv_logger_appends(tmp_path, url, machine):
    """Rows are appended to the content from before the run, which stays as it is."""
    (tmp_path / "old").write_text("epoch,loss,val_loss\n9,1.0,1.0\n")
    Transfer.open().upload(str(tmp_path / "old"), f"{url}/log.csv")
    training = Training(held=lambda: [keepfit.CSVLogger(f"{url}/log.csv", append=True)])
    interrupted(training, tmp_path / "store", machine, MOMENTS[0])
    lines = (downloaded(url, tmp_path / "found") / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "9", "0", "1", "2"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_model_checkpoint(tmp_path, url, machine, moment):
    """Each object exists and is complete, with the weights of its epoch."""
    template = "{epoch:02d}-{val_loss:.2f}.weights.h5"

    def training(kind, folder):
        return Training(held=lambda: [kind(f"{folder}/{template}", save_weights_only=True)])

    whole(training(keras.callbacks.ModelCheckpoint, tmp_path / "expected"))
    interrupted(training(keepfit.ModelCheckpoint, url), tmp_path / "store", machine, moment)
    found = downloaded(url, tmp_path / "found")
    expected = sorted((tmp_path / "expected").iterdir())
    assert len(expected) == 3
    assert sorted(path.name for path in found.iterdir()) == [path.name for path in expected]
    for path in expected:
        assert arrays_in(found / path.name) == arrays_in(path)


def test_model_is_sent_before_an_attempt_ends(tmp_path, url):
    """After the last save at a notice there is a moment for a small model."""
    training = Training(
        held=lambda: [keepfit.ModelCheckpoint(f"{url}/{{epoch}}.keras")], fit={"epochs": 2}
    )
    preempted(training, tmp_path / "store", "on_epoch_begin", 2)
    assert list(Transfer.open().sizes(url)) == ["1.keras"]


def test_copies_of_other_files_stay(tmp_path, url):
    """Only copies that the template can have made are removed when a fit begins."""
    template = f"{url}/{{epoch}}-1.weights.h5"
    stale = [Path(working_copy(f"{url}/{name}")) for name in ("7-1.weights.h5", "8-2.weights.h5")]
    unfinished = stale[0].with_name(f".keepfit-{uuid.uuid4().hex}-9-1.weights.h5")
    stale[0].parent.mkdir(parents=True)
    for path in (*stale, unfinished):
        path.write_bytes(b"left by a killed attempt")
    training = Training(held=lambda: [keepfit.ModelCheckpoint(template, save_weights_only=True)])
    attempt(training, tmp_path / "store")
    assert [path.exists() for path in (*stale, unfinished)] == [False, True, False]
    names = [f"{epoch}-1.weights.h5" for epoch in (1, 2, 3)]
    assert sorted(Transfer.open().sizes(url)) == names


def test_model_checkpoint_leaves_nothing_behind(tmp_path, url):
    """Uploaded files are removed from the machine's disk."""
    attempt(
        Training(held=lambda: [keepfit.ModelCheckpoint(f"{url}/last.keras")]), tmp_path / "store"
    )
    assert not [path for path in Path(tempfile.gettempdir()).rglob("*") if path.is_file()]


@pytest.mark.parametrize("moment", MOMENTS)
def test_tensorboard(tmp_path, url, machine, moment):
    """TensorBoard finds every step of every tag in S3 exactly once."""
    arguments = {"histogram_freq": 1, "update_freq": 1}
    expected = tmp_path / "expected"
    whole(Training(named, lambda: [keras.callbacks.TensorBoard(expected, **arguments)]))
    training = Training(named, lambda: [keepfit.TensorBoard(url, **arguments)])
    interrupted(training, tmp_path / "store", machine, moment)
    assert_same_events(events_in(downloaded(url, tmp_path / "found")), events_in(expected))


def test_tensorboard_after_a_kill(tmp_path, url, machine, monkeypatch):
    """Events that were uploaded after the checkpoint are removed from S3."""
    monkeypatch.setattr("keepfit.callbacks.keras.tensorboard.SEND_INTERVAL", 0.0)
    expected = tmp_path / "expected"
    whole(Training(named, lambda: [keras.callbacks.TensorBoard(expected, update_freq=1)]))
    training = Training(named, lambda: [keepfit.TensorBoard(url, update_freq=1)])
    preempted(training, tmp_path / "store", "on_train_batch_end", 3)
    shutil.copytree(tmp_path / "store", tmp_path / "older")
    preempted(training, tmp_path / "store", "on_test_batch_end", 2)
    machine()
    attempt(training, tmp_path / "older")
    assert_same_events(events_in(downloaded(url, tmp_path / "found")), events_in(expected))


@pytest.mark.parametrize(
    "make",
    [
        lambda url: keepfit.CSVLogger(f"{url}-none/log.csv"),
        lambda url: keepfit.ModelCheckpoint(f"{url}-none/{{epoch}}.keras"),
        lambda url: keepfit.TensorBoard(f"{url}-none"),
    ],
    ids=["CSVLogger", "ModelCheckpoint", "TensorBoard"],
)
def test_no_such_bucket(bucket, tmp_path, make):
    """One line in the log names the bucket, and training continues to its end."""
    done = attempt(Training(held=lambda: [make(f"{bucket}-none/x")]), tmp_path / "store")
    assert len(done.epochs) == 3
    failed = done.named(events.UPLOAD_FAILED)
    assert failed
    assert all("there is no bucket" in entry["reason"] for entry in failed)


@pytest.mark.parametrize(
    "make",
    [
        lambda: keepfit.CSVLogger("s3://bucket"),
        lambda: keepfit.CSVLogger("s3://UPPER/log.csv"),
        lambda: keepfit.ModelCheckpoint("s3://bucket/../x.keras"),
        lambda: keepfit.TensorBoard("s3://"),
    ],
)
def test_invalid_address(make):
    """An invalid address is refused by the constructor, with an example of a valid one."""
    with pytest.raises(ConfigurationError, match="s3://"):
        make()


def test_append_to_an_unreadable_object(bucket):
    """Rows that may exist are not overwritten."""
    with pytest.raises(StorageError, match="there is no bucket"):
        keepfit.CSVLogger(f"{bucket}-none/log.csv", append=True)


def test_outside_of_resumable(url, tmp_path):
    """The callbacks accept s3:// paths without Resumable, too."""
    with capture_logs() as logs:
        whole(
            Training(
                held=lambda: [
                    keepfit.CSVLogger(f"{url}/log.csv"),
                    keepfit.ModelCheckpoint(f"{url}/model.keras"),
                    keepfit.TensorBoard(f"{url}/board"),
                ]
            )
        )
    assert not [entry for entry in logs if entry["log_level"] in ("warning", "error")]
    names = set(Transfer.open().sizes(url))
    assert {"log.csv", "model.keras"} < names
    assert any(name.startswith("board/train/") for name in names)
