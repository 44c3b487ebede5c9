"""Files of callbacks: after any interruption they equal those of an uninterrupted run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import keras
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tensorflow.core.util import event_pb2
from tensorflow.python.framework import tensor_util
from tensorflow.python.lib.io import tf_record

from keepfit.callbacks import events
from tests.rotation import marks_of, rotating
from tests.training.trainings import BATCHES, Training, attempt, preempted, whole

WEIGHTS = {"save_weights_only": True}
TENSORBOARD = {"histogram_freq": 1, "write_images": True, "update_freq": 1}


def events_in(folder):
    """Return kind, tag, step and value of all that TensorBoard shows, in the order of its files."""
    found = []
    for kind in ("train", "validation"):
        for path in sorted(Path(folder, kind).glob("*tfevents*"), key=numbers):
            for record in tf_record.tf_record_iterator(str(path)):
                event = event_pb2.Event.FromString(record)
                if event.graph_def:
                    found.append((kind, "graph", event.step, None))
                for value in event.summary.value:
                    array = tensor_util.MakeNdarray(value.tensor)
                    shown = array.tolist() if array.dtype == object else array.tobytes()
                    shown = None if value.tag == "keras" else shown  # it contains generated names
                    found.append((kind, value.tag, event.step, shown))
    return found


def numbers(path):
    """Return the numbers in a file's name: its time in seconds, and its number in the process."""
    return [int(part) for part in path.name.split(".") if part.isdigit()]


def assert_same_events(found, expected):
    """Assert that the events are equal; the message shows the first that differs."""
    for actual, wanted in zip(found, expected, strict=False):
        assert actual[:3] == wanted[:3]
        assert actual[3] == wanted[3], f"{actual[:3]} has another value"
    assert len(found) == len(expected)


def named():
    """Return a model whose layers have the same names in each attempt, as in separate processes."""
    layers = [
        keras.Input((4,), name="x"),
        keras.layers.Dropout(0.4, name="dropout"),
        keras.layers.Dense(3, name="dense"),
    ]
    model = keras.Sequential(layers, name="model")
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    """Change to a temporary folder: scripts name their files relative to the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def remove_local_files(*names):
    """Remove what would stay on the old machine."""
    for name in names:
        path = Path(name)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def tensorboard(**more):
    """Return a training with TensorBoard."""
    return Training(
        named,
        held=lambda: [keras.callbacks.TensorBoard("board", **{**TENSORBOARD, **more})],
        fit={"epochs": 3},
    )


def uninterrupted(training, folder):
    """Return the events of an uninterrupted training."""
    whole(training)
    found = events_in(folder)
    shutil.rmtree(folder)
    return found


MOMENTS = [
    ("on_train_batch_end", 1),
    ("on_train_batch_end", 7),
    ("on_test_batch_end", 2),
    ("on_epoch_begin", 2),
    ("on_epoch_end", 2),
]


@pytest.mark.parametrize("new_machine", [False, True], ids=["same machine", "new machine"])
def test_tensorboard_is_resumed(workdir, new_machine):
    """Every tag has every step once, with its value, whenever and wherever the run is resumed."""
    training = tensorboard()
    expected = uninterrupted(training, "board")
    assert len(expected) > 30
    for number, moment in enumerate(MOMENTS[1:4]):
        store = workdir / f"store-{number}"
        preempted(training, store, *moment)
        if new_machine:
            remove_local_files("board")
        attempt(training, store)
        assert_same_events(events_in("board"), expected)
        remove_local_files("board")


def test_tensorboard_after_a_crash(workdir):
    """Events from after the checkpoint are removed; other files in the folder stay."""
    training = tensorboard()
    expected = uninterrupted(training, "board")
    Path("board/validation").mkdir(parents=True)
    other = Path("board/validation/events.out.tfevents.1.other")
    other.write_bytes(b"")
    preempted(training, workdir / "store", "on_train_batch_end", 3)
    shutil.copytree(workdir / "store", workdir / "older")
    preempted(training, workdir / "store", "on_test_batch_end", 3)
    attempt(training, workdir / "older")
    assert_same_events(events_in("board"), expected)
    assert other.exists()


def test_tensorboard_after_a_crash_before_the_first_checkpoint(workdir):
    """The next attempt starts over, and so do its events."""
    training = tensorboard()
    expected = uninterrupted(training, "board")

    class Crash(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(training, workdir / "store", Crash())
    assert events_in("board")
    attempt(training, workdir / "store")
    assert_same_events(events_in("board"), expected)


def test_tensorboard_in_a_folder_named_after_the_time(workdir):
    """As in tutorials: the run stays in the folder that it started with, and the log says so."""
    expected = uninterrupted(tensorboard(), "board")
    names = iter(["logs/20260101-120000", "logs/20260101-130000"])
    training = Training(named, lambda: [keras.callbacks.TensorBoard(next(names), **TENSORBOARD)])
    preempted(training, workdir / "store", "on_train_batch_end", 7)
    resumed = attempt(training, workdir / "store")
    assert_same_events(events_in("logs/20260101-120000"), expected)
    assert not Path("logs/20260101-130000").exists()
    (entry,) = resumed.named(events.PATH_KEPT)
    assert entry["path"] == "logs/20260101-120000"


def test_tensorboard_with_steps_per_second(workdir):
    """Times differ between runs; their tags and steps do not."""
    training = tensorboard(write_steps_per_second=True)
    expected = [e[:3] for e in uninterrupted(training, "board")]
    preempted(training, workdir / "store", "on_train_batch_end", 7)
    attempt(training, workdir / "store")
    assert [e[:3] for e in events_in("board")] == expected


@pytest.mark.parametrize("update_freq", rotating([1, 5, 7, "batch", "epoch"], days=2))
def test_tensorboard_resumed_at_each_batch(workdir, update_freq):
    """update_freq records the same batches and epochs, also after the last batch of an epoch."""
    training = tensorboard(update_freq=update_freq, histogram_freq=0, write_graph=False)
    expected = uninterrupted(training, "board")
    for batch in range(BATCHES + 1, 2 * BATCHES + 1):
        preempted(training, workdir / f"store-{batch}", "on_train_batch_end", batch)
        attempt(training, workdir / f"store-{batch}")
        assert_same_events(events_in("board"), expected)
        remove_local_files("board")


def checkpoints(**more):
    """Return a training with ModelCheckpoint."""
    arguments = {"filepath": "models/{epoch:02d}-{val_loss:.2f}.weights.h5", **more}
    weights = str(arguments["filepath"]).endswith(".weights.h5")
    return Training(
        held=lambda: [keras.callbacks.ModelCheckpoint(save_weights_only=weights, **arguments)],
        fit={"epochs": 3},
    )


def models_in(folder):
    """Return the weights in each file."""
    found = {}
    for path in sorted(Path(folder).iterdir()):
        if path.name.endswith(".keras"):
            found[path.name] = [w.tobytes() for w in keras.models.load_model(path).get_weights()]
        else:
            found[path.name] = arrays_in(path)
    return found


def arrays_in(path):
    """Return the arrays in an HDF5 file."""
    arrays = {}

    def add(name, item):
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()].tobytes()

    with h5py.File(path) as file:
        file.visititems(add)
    return arrays


@pytest.mark.parametrize(
    "training",
    [
        checkpoints(),
        checkpoints(filepath="models/best.weights.h5", save_best_only=True),
        checkpoints(filepath="models/{epoch}-{batch}.weights.h5", save_freq=4),
        checkpoints(filepath="models/last.keras"),
    ],
    ids=["templates", "best", "batches", "whole"],
)
def test_model_checkpoint_is_resumed(workdir, training):
    """All files exist at the end, also on a new machine, each with the right weights."""
    whole(training)
    expected = models_in("models")
    remove_local_files("models")
    for number, moment in enumerate(MOMENTS[1:3]):
        store = workdir / f"store-{number}"
        preempted(training, store, *moment)
        remove_local_files("models")
        attempt(training, store)
        assert models_in("models") == expected, moment
        remove_local_files("models")


def test_best_model_is_not_overwritten_by_a_worse_one(workdir):
    """The best value is kept across a restart (keras-team/keras#17012)."""
    losses = iter([0.1, 0.9, 0.9])

    def set_loss(epoch, logs):
        logs["loss"] = next(losses)

    path = Path("best.weights.h5")
    training = Training(
        held=lambda: [
            keras.callbacks.LambdaCallback(on_epoch_end=set_loss),
            keras.callbacks.ModelCheckpoint(
                str(path), "loss", save_best_only=True, save_weights_only=True
            ),
        ],
    )
    preempted(training, workdir / "store", "on_train_batch_end", 6)
    best = path.read_bytes()
    attempt(training, workdir / "store")
    assert path.read_bytes() == best


class JsonLines:
    """The JSON-lines file of the Keras tutorial, opened by the script and closed at the end."""

    def __init__(self, path, mode):
        self.file = open(path, mode, buffering=1)  # noqa: SIM115

    def callback(self):
        json_log = self.file
        return keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: json_log.write(
                json.dumps({"epoch": epoch, "loss": logs["loss"]}) + "\n"
            ),
            on_train_end=lambda logs: json_log.close(),
        )


@pytest.mark.parametrize(
    ("new_machine", "mode"),
    [
        pytest.param(new, mode, marks=marks_of(new + (mode == "at"), days=2))
        for new in (False, True)
        for mode in ("wt", "at")
    ],
)
def test_json_lines(workdir, mode, new_machine):
    """There is one line per epoch, although the script empties the file at each start."""
    path = Path("loss_log.json")
    training = Training(held=lambda: [JsonLines(path, mode).callback()], fit={"epochs": 4})
    whole(training)
    expected = path.read_bytes()
    path.unlink()
    for number, moment in enumerate([("on_train_batch_end", 7), ("on_epoch_end", 3)]):
        store = workdir / f"store-{number}"
        preempted(training, store, "on_train_batch_end", 2)
        preempted(training, store, *moment)
        if new_machine:
            remove_local_files(path)
        attempt(training, store)
        assert path.read_bytes() == expected
        attempt(training, store)  # a finished run: the script empties the file once more
        assert path.read_bytes() == expected
        path.unlink()


class OwnLog(keras.callbacks.Callback):
    """A callback that opens its file when training begins, and keeps it open."""

    def on_train_begin(self, logs=None):
        self.file = open("own.txt", "w")  # noqa: SIM115
        self.file.write("begin\n")

    def on_train_batch_end(self, batch, logs=None):
        self.file.write(f"{batch} {logs['loss']}\n")

    def on_train_end(self, logs=None):
        self.file.close()


def test_file_of_a_custom_callback(workdir):
    """A file that is opened in on_train_begin continues from the checkpoint."""
    training = Training(held=lambda: [OwnLog()])
    whole(training)
    expected = Path("own.txt").read_text()
    preempted(training, workdir / "store", "on_train_batch_end", 7)
    remove_local_files("own.txt")
    attempt(training, workdir / "store")
    assert Path("own.txt").read_text() == expected


def test_processes_are_cleaned_up_in_each_attempt(workdir):
    """on_train_end is also called for a finished fit: each attempt has processes to clean up."""
    stopped = []
    training = Training(
        held=lambda: [keras.callbacks.LambdaCallback(on_train_end=lambda logs: stopped.append(1))]
    )
    attempt(training, workdir / "store")
    attempt(training, workdir / "store")
    assert stopped == [1, 1]


def test_csv_named_after_the_time(workdir):
    """The run continues the file that it started."""
    names = iter(["log-100.csv", "log-200.csv"])
    training = Training(held=lambda: [keras.callbacks.CSVLogger(next(names))])
    preempted(training, workdir / "store", "on_train_batch_end", 7)
    remove_local_files("log-100.csv")
    attempt(training, workdir / "store")
    assert [line.split(",")[0] for line in Path("log-100.csv").read_text().splitlines()] == [
        "epoch",
        "0",
        "1",
        "2",
    ]
    assert not Path("log-200.csv").exists()


@settings(
    max_examples=3,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(kills=st.lists(st.integers(1, 14), min_size=1, max_size=3))
def test_all_together_at_random_batches(kills):
    """The files of all callbacks are right after any number of interruptions at any batches."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)

        def held():
            return [
                keras.callbacks.TensorBoard("board", update_freq=1),
                keras.callbacks.CSVLogger("log.csv"),
                keras.callbacks.ModelCheckpoint(
                    "models/{epoch}.weights.h5", save_weights_only=True
                ),
                JsonLines("lines.json", "w").callback(),
                keras.callbacks.EarlyStopping("val_loss", patience=9, restore_best_weights=True),
                keras.callbacks.ReduceLROnPlateau("val_loss", patience=1, cooldown=1),
            ]

        training = Training(named, held)
        whole(training)
        expected = everything()
        remove_local_files("board", "log.csv", "models", "lines.json")
        done = 0
        for kill in kills:
            if done + kill < 15:
                preempted(training, "store", "on_train_batch_end", kill)
                done += kill
                remove_local_files("board", "log.csv", "models", "lines.json")
        attempt(training, "store")
        found = everything()
        assert_same_events(found[0], expected[0])
        assert found[1:] == expected[1:]


def everything():
    """Return the contents of all files of the callbacks."""
    return (
        events_in("board"),
        Path("log.csv").read_bytes(),
        models_in("models"),
        Path("lines.json").read_bytes(),
    )
