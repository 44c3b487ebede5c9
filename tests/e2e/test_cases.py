"""Unusual scripts and stores, in real processes."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.cases import (
    OFTEN,
    PLAIN,
    STEPS,
    check_preempted,
    committed,
    finish,
    kill_after_save,
    stopped,
    stopping,
    stored,
    write,
)
from tests.e2e.process import run


def without_journal(objects: dict[str, bytes]) -> dict[str, bytes]:
    """Return the objects without the journal of attempt 1, which follows some time after a save."""
    return {p: content for p, content in objects.items() if not p.endswith("/attempts/0001.json")}


def test_two_scripts_of_the_same_name(tmp_path, plain):
    """The second one has another model: it is refused, and the first one's run is untouched."""
    first = write(tmp_path / "first", PLAIN)
    second = write(tmp_path / "second", PLAIN.replace("build()", "build(5)"))
    flags = ("--store", f"file://{first}/runs", "--deterministic", "--save-every", "8 batches")
    with stopping(first, *flags) as attempt:
        attempt.until_all("moment\n", '"event": "checkpoint_saved"')
        before = without_journal(stored(first))
        refused = run(second, *flags, "train.py")
        assert refused.code == 78, refused.err
        assert refused.one("refused")
        assert without_journal(stored(first)) == before
        attempt.go_on()
        ended = attempt.process.wait()
    assert ended.code == 0, ended.err
    assert json.loads((first / "result.json").read_text()) == plain


def flip_byte(path: Path) -> None:
    """Flip a bit in the file."""
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [Path.unlink, flip_byte])
def test_head_is_harmed_in_mid_run(tmp_path, plain, harm: Callable[[Path], None]):
    """Nobody else owns the run, so it goes on, or is to be run again; then it ends exactly."""
    with stopping(write(tmp_path, PLAIN), *OFTEN) as attempt:
        attempt.until_all("moment\n", '"event": "checkpoint_saved"')
        harm(tmp_path / "runs/train/HEAD.json")
        attempt.go_on()
        ended = attempt.process.wait()
    assert ended.code in (0, 75), ended.err
    assert finish(tmp_path) == plain


OWN_FILE = """
import glob
files = sorted(glob.glob("own/*.keras"))
model = keras.models.load_model(files[-1]) if files else build()
held = [keras.callbacks.ModelCheckpoint("own/{epoch}.keras"), Stop()]
arguments = {"epochs": 3, "initial_epoch": len(files), "batch_size": 8, "verbose": 0}
Path("own").mkdir(exist_ok=True)
history = model.fit(x, x.sum(1), callbacks=[Resumable(held)], **arguments)
result(model, history)
"""


def test_a_script_with_a_resume_of_its_own(tmp_path, plain):
    """It loads its newest file, whose variables have other paths, and starts at another epoch.

    The result is that of the uninterrupted training all the same, also after a second kill, from a
    checkpoint with those paths.
    """
    kill_after_save(write(tmp_path, OWN_FILE))
    assert committed(tmp_path) == 9
    with stopping(tmp_path, *OFTEN, at=4) as attempt:
        attempt.until_all("moment\n", '"event": "checkpoint_saved"')
        attempt.kill()
    assert committed(tmp_path) > 9
    assert finish(tmp_path) == plain


LONG_NAME = """
model, name = build(), os.environ["NAME"]
history = fit(model, keras.callbacks.CSVLogger(name))
result(model, history, log=open(name).read())
"""
NAMES = {"90_bytes_of_utf8": "训" * 30 + ".csv", "250_letters": "a" * 246 + ".csv"}


@pytest.mark.parametrize("name", NAMES)
def test_a_long_name_of_a_log(tmp_path, plain, name):
    """A file whose name the file system allows is saved, and has the rows of all attempts."""
    kill_after_save(write(tmp_path, LONG_NAME), NAME=NAMES[name])
    assert committed(tmp_path) > 0
    found = finish(tmp_path, NAME=NAMES[name])
    rows = [row.split(",")[:2] for row in found.pop("log").split()]
    expected = [[str(epoch), str(loss)] for epoch, loss in enumerate(plain["history"]["loss"])]
    assert rows == [["epoch", "loss"], *expected]
    assert found == plain


MONITOR = """
import keepfit

class Break(Stateless):
    def on_train_begin(self, logs=None):
        Path("runs/train/reports").write_text("no folder")

kind = {"keras": keras.callbacks, "keepfit": keepfit}[os.environ["KIND"]].RemoteMonitor
model = build()
result(model, fit(model, Break(), kind("http://127.0.0.1:9")))
"""


@pytest.mark.parametrize("kind", ["keras", "keepfit"])
def test_remote_monitor_without_its_store(tmp_path, plain, kind):
    """Its server does not answer and its markers can't be stored: training continues."""
    assert finish(write(tmp_path, MONITOR), KIND=kind) == plain


FAILING_WRITER = """
from keepfit.callbacks.engine.writer import WRITER_THREAD
from keepfit.callbacks.storage.file_operations import FileOperations

errors = {
    "MemoryError": MemoryError("no memory"),
    "ResourceExhausted": tf.errors.ResourceExhaustedError(None, None, "no memory"),
}
failing, write = [errors[os.environ["KIND"]]], FileOperations.write

def fail_once(*args):
    if failing and threading.current_thread().name.startswith(WRITER_THREAD):
        raise failing.pop()
    return write(*args)

FileOperations.write = fail_once
model = build()
result(model, fit(model))
assert not failing
"""


@pytest.mark.parametrize("kind", ["MemoryError", "ResourceExhausted"])
def test_the_writer_fails(tmp_path, plain, kind):
    """An error on the writer's thread is one failed save; training continues."""
    ended = run(write(tmp_path, FAILING_WRITER), *OFTEN, "train.py", KIND=kind)
    assert ended.code == 0, ended.err
    assert ended.one("save_failed")["reason"]
    assert json.loads((tmp_path / "result.json").read_text()) == plain
    assert committed(tmp_path) == STEPS


LARGE_ARRAY = """
class Sums(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.small, self.large = np.zeros((300, 300)), np.zeros((400, 400))

    def on_train_batch_end(self, batch, logs=None):
        self.small += 1
        self.large += 1

model, sums = build(), Sums()
history = fit(model, sums)
result(model, history, sums=[float(sums.small.max()), float(sums.large.min())])
"""


def test_an_array_that_changes_in_place(tmp_path, plain):
    """It is kept, also if it is larger than 1 MiB."""
    kill_after_save(write(tmp_path, LARGE_ARRAY))
    assert finish(tmp_path) == {**plain, "sums": [STEPS, STEPS]}


LONG_LIST = """
HEAD = Path("runs/train/HEAD.json")

class Losses(keras.callbacks.Callback):
    def __init__(self, numbers):
        super().__init__()
        self.numbers, self.losses = numbers, []

    def on_train_begin(self, logs=None):
        self.losses = [0.123456789 * number for number in range(self.numbers)]

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(logs["loss"])

class Slowest(Stateless):
    "Measures the slowest batch between two commits, for six pairs of commits."

    def __init__(self):
        super().__init__()
        self.head = self.last = None
        self.windows = []

    def on_train_batch_begin(self, batch, logs=None):
        now, head = time.perf_counter(), HEAD.stat().st_ino
        if self.windows and self.last:
            self.windows[-1] = max(self.windows[-1], now - self.last)
        if head != self.head:
            self.windows.append(0.0)
            self.model.stop_training = len(self.windows) > 7
        self.last, self.head = now, head

def slowest(numbers):
    "Return the slowest batch of the best window; the first window traces, the last is not over."
    measured = Slowest()
    data = tf.data.Dataset.from_tensor_slices((x, x.sum(1))).repeat().batch(8)
    held = [Losses(numbers), measured]
    build().fit(
        data, steps_per_epoch=20, epochs=10**6, verbose=0,
        callbacks=[Resumable(held, save_every="20 batches")],
    )
    return min(measured.windows[1:-1])

found = [[slowest(0), slowest(10**6)] for _ in range(2)]
result(build(), None, slowest=np.min(found, axis=0).tolist())
"""


def test_a_save_does_not_slow_down_with_the_length_of_a_list(tmp_path):
    """1,000,000 numbers are encoded on the writer's thread: training waits for a copy of the list.

    To encode them takes seconds, and the copy 15 ms. Each window between two commits contains one
    whole save. The best window counts, so other load of the machine hardly does.
    """
    short, long = finish(write(tmp_path, LONG_LIST), "--deterministic")["slowest"]
    assert long - short < 0.2, f"{short * 1000:.1f} ms without, {long * 1000:.1f} ms with"


MANY_FITS = """
def read_bytes():
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])

before = read_bytes()
model = keras.Sequential([keras.Input((256,)), keras.layers.Dense(512), keras.layers.Dense(256)])
model.compile("adam", "mse")
rows = np.random.default_rng(0).normal(size=(64, 256)).astype("float32")
losses = []
for _ in range(int(os.environ["FITS"])):
    history = model.fit(rows, rows, batch_size=32, verbose=0, callbacks=[Resumable()])
    losses += history.history["loss"]
size = sum(v.numpy().nbytes for v in [*model.variables, *model.optimizer.variables])
result(model, None, losses=losses, read=read_bytes() - before, size=size)
"""


def test_many_fits(tmp_path):
    """A loop of fits stores three checkpoints at most, and finished fits are not read again."""
    write(tmp_path, MANY_FITS)
    read = {}
    for fits in (10, 40):
        first = finish(tmp_path, FITS=str(fits))
        held = sum(len(content) for content in stored(tmp_path).values())
        assert held < 3.1 * first["size"], f"{held / first['size']:.1f} models after {fits} fits"
        again = finish(tmp_path, FITS=str(fits))
        read[fits] = again.pop("read")
        assert again == {key: value for key, value in first.items() if key != "read"}
        assert len(again["losses"]) == fits
    assert read[40] - read[10] < first["size"], f"bytes read by number of fits: {read}"


def test_fresh_in_a_command_that_is_retried(tmp_path, plain):
    """Only the first start begins anew; after the run's end, the next one does so again."""
    assert finish(write(tmp_path, PLAIN)) == plain
    with stopped(tmp_path, *OFTEN, "--fresh") as attempt:
        ended = attempt.end(signal.SIGTERM)
    check_preempted(ended)
    assert ended.one("started_afresh")
    with stopping(tmp_path, *OFTEN, "--fresh", at=6) as attempt:
        attempt.until_all("moment\n", '"event": "checkpoint_saved"')
        attempt.kill()
    last = run(tmp_path, *OFTEN, "--fresh", "train.py")
    assert last.code == 0, last.err
    assert last.one("resumed")["step"] > STEPS // 2
    assert not last.named("started_afresh")
    assert json.loads((tmp_path / "result.json").read_text()) == plain
    anew = run(tmp_path, *OFTEN, "--fresh", "train.py")
    assert anew.code == 0, anew.err
    assert anew.one("started_afresh")
    assert not anew.named("resumed")
    assert not anew.named("already_finished")
    assert json.loads((tmp_path / "result.json").read_text()) == plain


MORE = """
model, stop = build(), keras.callbacks.EarlyStopping("loss", patience=99)
history = model.fit(
    x, x.sum(1), batch_size=8, epochs=int(os.environ["EPOCHS"]), verbose=0,
    callbacks=[Resumable([stop, keras.callbacks.CSVLogger("log.csv"), Stop()])],
)
result(model, history, log=Path("log.csv").read_text())
"""


def test_killed_while_a_finished_run_trains_on(tmp_path):
    """It is asked for more epochs, killed in the second of them, and asked again: the same end."""
    expected = finish(write(tmp_path / "whole", MORE), EPOCHS="3")
    finish(write(tmp_path / "more", MORE), EPOCHS="1")
    with stopping(tmp_path / "more", *OFTEN, at=12, EPOCHS="3") as attempt:
        attempt.until_all("moment\n", '"event": "checkpoint_saved"')
        attempt.kill()
    assert 8 < committed(tmp_path / "more") < STEPS
    assert finish(tmp_path / "more", EPOCHS="3") == expected


CLOCK = """
class TimeStopping(keras.callbacks.Callback):
    def __init__(self, seconds):
        super().__init__()
        self.seconds, self.begun = seconds, None

    def on_train_begin(self, logs=None):
        self.begun = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        if time.monotonic() - self.begun > self.seconds:
            self.model.stop_training = True

history = fit(build(), TimeStopping(float(os.environ["SECONDS"])))
Path("result.json").write_text(json.dumps(len(history.epoch)))
"""

OTHER_BOOT = """
import time
time.monotonic = lambda clock=time.monotonic: clock() + 1_000_000
"""


def test_a_clock_of_another_machine(tmp_path):
    """A callback that stops after some time counts from its own machine's clock.

    The first attempt runs on a machine that was started eleven days earlier.
    """
    write(tmp_path, CLOCK)
    boot = tmp_path / "boot"
    boot.mkdir()
    (boot / "sitecustomize.py").write_text(OTHER_BOOT)
    kill_after_save(tmp_path, SECONDS="1000", PYTHONPATH=str(boot), launcher=["env"])
    assert finish(tmp_path, SECONDS="0") == 2
