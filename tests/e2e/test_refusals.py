"""Refused runs and bad input: one clear line, a defined exit code, and no damage."""

from __future__ import annotations

import json
import signal

import pytest

from tests.e2e.cases import committed, kill_after_save, stored, write
from tests.e2e.process import SMALL, document, result, run, small


def test_changed_model_is_refused(tmp_path, uninterrupted):
    """A changed model exits with 78 and names the differing variables; the old script resumes."""
    assert small(tmp_path, "tfdata", "--kill", "batch_end:1:9").code == -signal.SIGKILL
    ended = small(tmp_path, "tfdata", "--units", "48")
    assert ended.code == 78
    refused = ended.one("refused")
    assert (
        "layer sequential/dense: kernel (20, 32) in the checkpoint, (20, 48) in the model"
        in refused["reason"]
    )
    assert "--fresh" in refused["fix"]
    assert "Traceback" not in ended.err
    assert small(tmp_path, "tfdata").code == 0
    assert result(tmp_path) == uninterrupted("tfdata")


CHANGED = """
rows, size = int(os.environ.get("ROWS", "64")), int(os.environ.get("BS", "8"))
model = build()
model.compile(keras.optimizers.SGD(float(os.environ.get("LR", "0.01"))), "mse")
callbacks = [Resumable([Stop()])]
history = model.fit(
    x[:rows], x[:rows].sum(1), batch_size=size, epochs=3, verbose=0, callbacks=callbacks
)
result(model, history, rate=round(float(model.optimizer.learning_rate), 6))
"""
"""A script of which the environment changes the input and the learning rate."""


def test_changed_input(tmp_path):
    """It is refused in our words, and takes nothing over; a changed learning rate is named."""
    folder = write(tmp_path, CHANGED)
    kill_after_save(folder)
    before = stored(folder)
    for change, sentence in (
        ({"BS": "16"}, "the batch size of the input is 16, the checkpoint was trained with 8"),
        ({"ROWS": "40"}, "the input has 40 rows, the checkpoint was trained with 64"),
    ):
        ended = run(folder, "--deterministic", "train.py", **change)
        assert ended.code == 78, ended.err
        assert ended.one("refused")["reason"] == sentence
        assert "Traceback" not in ended.err
        assert stored(folder) == before
    exact = run(folder, "--deterministic", "--exact", "train.py", LR="0.001")
    assert exact.code == 78
    assert exact.one("refused")["warning"] == "hyperparameter_changed"
    assert stored(folder) == before
    ended = run(folder, "--deterministic", "train.py", LR="0.001")
    assert ended.code == 0, ended.err
    said = ended.one("hyperparameter_changed")
    assert "learning_rate is 0.001 in the script, and was 0.01" in said["reason"]
    assert "LearningRateScheduler" in said["fix"]
    assert result(folder)["rate"] == 0.01
    assert committed(folder) == 24


def test_damaged_checkpoint_is_skipped(tmp_path, uninterrupted):
    """The checkpoint before it is used, the log has the reason, and the result is the same."""
    assert small(tmp_path, "tfdata", "--kill", "batch_end:3:9").code == -signal.SIGKILL
    run_folder = tmp_path / "runs/small"
    head = document(run_folder / "HEAD.json")
    newest = document(tmp_path / "runs" / head["checkpoints"][0])
    shard = tmp_path / "runs" / newest["shards"][0]["key"]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    ended = small(tmp_path, "tfdata")
    assert ended.code == 0, ended.err
    rejected = ended.one("checkpoint_rejected")
    assert rejected["checkpoint"] == head["checkpoints"][0]
    assert shard.name in rejected["reason"]
    assert ended.one("resumed")["checkpoint"] == head["checkpoints"][1]
    assert result(tmp_path) == uninterrupted("tfdata")


def test_without_a_usable_checkpoint_it_does_not_start_over(tmp_path):
    """It exits with 78, and the line names --fresh."""
    assert small(tmp_path, "tfdata", "--kill", "batch_end:1:9").code == -signal.SIGKILL
    for shard in (tmp_path / "runs/small/shards").iterdir():
        shard.unlink()
    ended = small(tmp_path, "tfdata")
    assert ended.code == 78
    assert "--fresh" in ended.one("refused")["reason"]
    assert not (tmp_path / "result.json").exists()


SCRIPT_ERRORS = {
    "no such script": (["nothere.py"], "there is no script 'nothere.py'"),
    "a store of no known kind": (["--store", "ftp://x", SMALL], "file://PATH"),
    "a store without a scheme": (["--store", "runs", SMALL], "Received: store='runs'"),
    "a malformed save_every": (["--save-every", "often", SMALL], "Received: save_every='often'"),
    "a run name with a slash": (["--run", "a/b", SMALL], "contains no slash. Received: run='a/b'"),
}


@pytest.mark.parametrize("case", SCRIPT_ERRORS)
def test_bad_input_is_one_line(tmp_path, case):
    """Bad input exits with 2, before anything is imported or written."""
    args, text = SCRIPT_ERRORS[case]
    ended = run(tmp_path, *args)
    assert ended.code == 2
    assert text in ended.one("refused")["reason"]
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_bad_argument_in_the_script(tmp_path):
    """A bad argument exits with 78 and one line, like any error that a retry does not fix."""
    script = tmp_path / "train.py"
    script.write_text("from keepfit import Resumable\nResumable(save_every='often')\n")
    ended = run(tmp_path, script)
    assert ended.code == 78
    assert "Received: save_every='often'" in ended.one("refused")["reason"]
    assert "Traceback" not in ended.err


def test_unwritable_store(tmp_path):
    """A store that can't be written (here: a file) exits with 78 and is named."""
    (tmp_path / "store").write_text("not a directory")
    ended = run(tmp_path, "--store", f"file://{tmp_path}/store", SMALL, "numpy")
    assert ended.code == 78
    assert f"file://{tmp_path}/store" in ended.one("refused")["reason"]
    assert "Traceback" not in ended.err


def test_script_runs_as_with_python(tmp_path):
    """argv, names, path, exit code and output are as with python; one warning without Resumable."""
    script = tmp_path / "plain.py"
    script.write_text(
        "import sys, json\n"
        "import beside\n"
        "print(json.dumps([sys.argv, __name__, __file__, sys.path[0], beside.x]))\n"
        "assert sys.modules['__main__'].__dict__ is globals()\n"
        "sys.exit(int(sys.argv[-1]))\n"
    )
    (tmp_path / "beside.py").write_text("x = 5\n")
    ended = run(tmp_path, "plain.py", "--flag", "-x", "0")
    expected = [["plain.py", "--flag", "-x", "0"], "__main__", str(script), str(tmp_path), 5]
    assert json.loads(ended.out) == expected
    assert (ended.code, ended.one("not_resumable")["script"]) == (0, "plain.py")
    assert run(tmp_path, "plain.py", "7").code == 7


def test_only_explicit(tmp_path):
    """A fit without Resumable is as under `python`; a warning at the end says so."""
    (tmp_path / "plain.py").write_text(
        "import keras, numpy as np\n"
        "model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])\n"
        "model.compile('sgd', 'mse')\n"
        "model.fit(np.ones((8, 1)), np.ones(8), verbose=0)\n"
    )
    ended = run(tmp_path, "--only-explicit", "plain.py")
    assert ended.code == 0, ended.err
    assert "--only-explicit" in ended.one("not_resumable")["fix"]
    assert not (tmp_path / "runs").exists()
    ended = run(tmp_path, "plain.py")
    assert ended.one("fits_resumable")["run"] == "plain"
    assert committed(tmp_path, "plain") == 1
