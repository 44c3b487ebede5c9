"""Forged documents against the next attempt: a writer of the store can only spoil the run itself.

Each lie has a right digest. It is named in the log, the checkpoint before it is used, and the
result is that of an uninterrupted training. Nothing outside the run is read, written or deleted.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import pytest

from keepfit.callbacks import events
from tests.forged.run import RUN, TRAINING, ForgedRun, content_of, copy_of, resume, save, setting
from tests.rotation import rotating
from tests.training.trainings import Outcome, whole


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an interrupted training with two checkpoints or more."""
    folder = tmp_path_factory.mktemp("base")
    save(folder)
    return folder


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Return the outcome of the uninterrupted training."""
    with chdir(tmp_path_factory.mktemp("whole")):
        return whole(TRAINING)


def names_a_secret(run: ForgedRun) -> None:
    """Have a file of the machine uploaded as one of ModelCheckpoint's."""
    run.state_of("ModelCheckpoint")["files"] = [str(run.folder.parent / "secret.txt")]


def names_a_secret_by_parents(run: ForgedRun) -> None:
    """Have a file outside the folder uploaded, by a path that fits the template but for `..`."""
    run.state_of("ModelCheckpoint")["files"] = ["ck/../../secret/09.weights.h5"]


def sets_the_path(run: ForgedRun) -> None:
    """Have ModelCheckpoint write elsewhere."""
    run.state_of("ModelCheckpoint")["values"]["filepath"] = "evil/w.weights.h5"


def sets_a_method(run: ForgedRun) -> None:
    """Have a method of the user's callback replaced."""
    run.state_of("Collector")["on_train_batch_end"] = 5


def sets_a_known_name(run: ForgedRun) -> None:
    """Have the model of the user's callback replaced."""
    run.state_of("Collector")["_model"] = None


def moves_the_log(run: ForgedRun) -> None:
    """Have CSVLogger continue a file outside of its folder."""
    run.state_of("CSVLogger")["file"] = "../log.csv"


def moves_the_board(run: ForgedRun) -> None:
    """Have TensorBoard continue in a folder through a link."""
    run.state_of("TensorBoard")["log_dir"] = "link/../board"


def leaves_out_the_epoch(run: ForgedRun) -> None:
    """Have a finished epoch trained again: a missing field would have its default, the first."""
    del run.manifest["position"]["epoch"]


def _adds_file(path: str, key: str, content: bytes = b"EVIL") -> Callable[[ForgedRun], None]:
    def forge(run: ForgedRun) -> None:
        parts = [run.add_object(key, content)]
        run.manifest["logs"].append({"path": path, "parts": parts, "whole": True})

    return forge


PART = f"{RUN}/logs/x/000000000000-0001-0000"
OTHERS_SHARD = f"other/shards/{'a' * 64}-0001.safetensors"

HARMLESS = {
    "names a secret": names_a_secret,
    "names a secret by parents": names_a_secret_by_parents,
    "moves the log": moves_the_log,
    "moves the board": moves_the_board,
    "writes to a parent": _adds_file("ck/../../evil/p.weights.h5", PART),
    "writes to another folder": _adds_file("evil/p.weights.h5", PART),
    "versions of a stranger": setting("manifest", "versions", value={"x": "y"}),
    "state of a newer keepfit": setting("manifest", "state", "new", value=[1, {"a": None}]),
    "head names another file": lambda run: run.head["checkpoints"].insert(0, "../../etc/passwd"),
    "head names a long key": lambda run: run.head["checkpoints"].insert(0, "x" * 300),
    "head names another run": lambda run: run.head["checkpoints"].insert(
        0, run.key.replace(RUN, "other", 1)
    ),
    "head counts 10^40 attempts": setting("head", "attempt", value=10**40),
    "trained on by whom": setting("head", "origin", "trained-on:x", value=3),
    "baseline of no fit": setting("head", "origin", "٣:log.csv", value=3),
}
"""Lies that take nothing from the newest checkpoint, or are those of HEAD."""


def _many_parts(run: ForgedRun) -> None:
    part = run.add_object(PART, b"x" * 100)
    run.manifest["logs"].append({"path": "ck/09.weights.h5", "parts": [part] * 1000})


def _size_of_log(size: int) -> Callable[[ForgedRun], None]:
    def forge(run: ForgedRun) -> None:
        part = {"key": PART, "digest": "0" * 64, "size": size}
        run.manifest["logs"].append({"path": "ck/09.weights.h5", "parts": [part], "whole": True})

    return forge


def _repeated_list(run: ForgedRun) -> None:
    tensor = next(t for t in run.manifest["tensors"] if t["name"].startswith("state/"))
    run.manifest["state"]["more"] = [{"$array": tensor["name"]}] * 3


def _deep(run: ForgedRun) -> None:
    nest: list[object] = []
    for _ in range(150):
        nest = [nest]
    run.manifest["state"]["deep"] = nest


REJECTED = {
    "sets the path": sets_the_path,
    "sets a method": sets_a_method,
    "sets a known name": sets_a_known_name,
    "names another's shard": _adds_file("nothing", OTHERS_SHARD, b"precious"),
    "a log of 2^50 bytes": _size_of_log(1 << 50),
    "a log of 10^30 bytes": _size_of_log(10**30),
    "a part a thousand times": _many_parts,
    "an array three times": _repeated_list,
    "a nest of 150 lists": _deep,
    "a shard of 2^50 bytes": setting("manifest", "shards", 0, "size", value=1 << 50),
    "no state": setting("manifest", "state", value={}),
    "randomness of text": setting("manifest", "state", "randomness", value="x"),
    "randomness of another generator": setting(
        "manifest", "state", "randomness", "numpy", "bit_generator", value="PCG64"
    ),
    "callbacks of a number": setting("manifest", "state", "callbacks", value=5),
    "a state of text": setting("manifest", "state", "callbacks", 2, "state", value="x"),
    "files is 5": lambda run: run.state_of("ModelCheckpoint").update(files=5),
    "a file with a null byte": lambda run: run.state_of("CSVLogger").update(file="log\0.csv"),
    "a negative wait": lambda run: run.state_of("EarlyStopping").update(wait=-1),
    "weights of text": lambda run: run.state_of("EarlyStopping").update(best_weights=["x"]),
    "weights of another model": lambda run: run.state_of("EarlyStopping").update(best_weights=[]),
    "a mark of 40 bits": lambda run: run.state_of("TensorBoard").update(mark=1 << 40),
    "an epoch of text": setting("manifest", "state", "history", "epoch", value="0"),
    "logs of text": setting("manifest", "state", "logs", "loss", value="x"),
    "calls 10^30": setting("manifest", "position", "calls", value=10**30),
    "calls 50": setting("manifest", "position", "calls", value=50),
    "no epoch": leaves_out_the_epoch,
    "epoch 10^30": setting("manifest", "position", "epoch", value=10**30),
    "step 0": setting("manifest", "position", "step", value=0),
    "data counts 50 calls": setting("manifest", "state", "data", "calls", value=50),
    "a batch of 2^60 rows": setting(
        "manifest", "state", "element_spec", "items", 0, "shape", value=[1 << 60, 4]
    ),
    "a batch of no type": setting(
        "manifest", "state", "element_spec", "items", 0, "dtype", value="float31"
    ),
    "an order of strangers": setting(
        "manifest", "state", "variables", "groups", value=[["model", 10**6]]
    ),
    "hyperparameters of lists": setting("manifest", "state", "hyperparameters", value={"a": [1]}),
    "a tensor beyond its shard": setting("manifest", "tensors", 0, "offset", value=1 << 40),
    "two tensors of a name": lambda run: run.manifest["tensors"].append(run.manifest["tensors"][0]),
    "another run's manifest": setting("manifest", "run", value="other"),
}
"""Lies of the newest checkpoint, which is rejected."""


def no_harm(folder: Path, outside: dict[str, bytes]) -> None:
    """Assert that nothing outside the training's files has been read, written or deleted."""
    assert content_of(folder.parent / "outside") == outside
    assert not (folder / "evil").exists()
    assert not (folder.parent / "evil").exists()
    assert sorted(p.name for p in folder.parent.iterdir()) == ["here", "outside", "secret.txt"]
    uploaded = content_of(folder / "runs")
    assert not [name for name, content in uploaded.items() if b"TOP-SECRET" in content]
    if OTHERS_SHARD in uploaded:
        assert uploaded[OTHERS_SHARD] == b"precious"
    names = {path.name for path in folder.iterdir()} - {"link"}
    assert names <= {"runs", "log.csv", "ck", "board"}


def forged(base: Path, tmp_path: Path, forge: Callable[[ForgedRun], None]) -> Outcome:
    """Forge a copy of the run, resume it, and assert that nothing was harmed."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "log.csv").write_text("theirs")
    (tmp_path / "secret.txt").write_text("TOP-SECRET")
    folder = tmp_path / "here"
    with copy_of(base, folder) as run:
        (folder / "link").symlink_to(tmp_path / "outside")
        forge(run)
    kept = content_of(folder / "runs" / "other")
    outside = content_of(tmp_path / "outside")
    try:
        return resume(folder)
    finally:
        no_harm(folder, outside)
        assert content_of(folder / "runs" / "other") == kept


def assert_same(resumed: Outcome, expected: Outcome) -> None:
    """Assert that both trainings are equal; TensorBoard's clocks are not compared."""
    assert resumed.variables == expected.variables
    assert resumed.history == expected.history
    assert resumed.draws == expected.draws
    assert resumed.states[5:] == expected.states[5:]


@pytest.mark.parametrize("name", rotating(HARMLESS))
def test_harmless(base: Path, expected: Outcome, tmp_path: Path, name: str) -> None:
    """The lie is ignored, and training goes on from the newest checkpoint."""
    resumed = forged(base, tmp_path, HARMLESS[name])
    assert_same(resumed, expected)
    assert resumed.named(events.RESUMED)[0]["step"] == 8


@pytest.mark.parametrize("name", rotating(REJECTED))
def test_rejected(base: Path, expected: Outcome, tmp_path: Path, name: str) -> None:
    """The checkpoint is named as damaged, and the one before it is used."""
    resumed = forged(base, tmp_path, REJECTED[name])
    assert_same(resumed, expected)
    (rejected,) = resumed.named(events.CHECKPOINT_REJECTED)
    assert len(rejected["reason"]) < 600
    assert "\n" not in rejected["reason"]
    assert resumed.named(events.RESUMED)[0]["step"] < 8
