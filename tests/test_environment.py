"""What keepfit can't keep exact is refused in one line, before anything is claimed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import keras
import pytest
import tensorflow as tf

from keepfit import Refused, Resumable
from keepfit.callbacks import environment
from keepfit.callbacks.logs.logger import capture_logs
from tests import packaging
from tests.e2e.process import run
from tests.rotation import marks_of

TRAIN = """
import os, sys
{before}
from keepfit import Resumable
import keras, numpy as np, tensorflow as tf
{around}
model.compile("sgd", "mse")
x = np.ones((8, 2), "f4")
model.fit(x, x[:, :1], batch_size=4, epochs=1, verbose=0, callbacks=[Resumable()])
print("trained")
"""

MODEL = "model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])"
IN_SCOPE = f"""
with tf.distribute.{{}}.scope():
    {MODEL}
"""
CASES = {
    "an old Keras": ("import keras; keras.__version__ = '3.5.0'", MODEL, {}, "keras 3.5.0"),
    "a new Keras": ("import keras; keras.__version__ = '3.16.0'", MODEL, {}, "keras 3.16.0"),
    "an old TensorFlow": (
        "import tensorflow as tf; tf.__version__ = '2.17.1'",
        MODEL,
        {},
        "tensorflow 2.17.1",
    ),
    "a new TensorFlow": (
        "import tensorflow as tf; tf.__version__ = '3.0.0-rc0'",
        MODEL,
        {},
        "tensorflow 3.0.0-rc0",
    ),
    "JAX": ("", MODEL, {"KERAS_BACKEND": "jax"}, "KERAS_BACKEND chooses"),
    "PyTorch": ("", MODEL, {"KERAS_BACKEND": "torch"}, "KERAS_BACKEND chooses"),
    "NumPy, by Keras' file": ("", MODEL, {"KERAS_HOME": "."}, "keras.json chooses"),
    "legacy Keras": ("", MODEL, {"TF_USE_LEGACY_KERAS": "1"}, "TF_USE_LEGACY_KERAS"),
    "a model of tf_keras": (
        "",
        "import tf_keras\n" + MODEL.replace("keras.", "tf_keras.").replace("Input", "layers.Input"),
        {},
        "tf_keras.Sequential",
    ),
    "several workers": (
        "",
        IN_SCOPE.format("MultiWorkerMirroredStrategy()"),
        {},
        "tf.distribute.MultiWorkerMirroredStrategy",
    ),
}


def started_by(way: str, folder: Path, variables: dict[str, str]) -> tuple[int, str, str]:
    """Run train.py. Return the exit code, the output and the errors.

    Variables decide what is imported, so only a process without any can be forked from one that
    has imported everything.
    """
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3"}
    if way == "keepfit run" and not variables:
        forked = run(folder, "train.py", **quiet)
        return forked.code, forked.out, forked.err
    program, *arguments = way.split()
    ended = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments, "train.py"],
        cwd=folder,
        env={**packaging.clean_environment(), **quiet, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


WAYS = [(case, "keepfit run") for case in CASES] + [
    pytest.param(case, "python", marks=[] if CASES[case][2] else marks_of(number, days=3))
    for number, case in enumerate(CASES)
]
"""All cases in both ways. A refusal under `python` after TensorFlow's import takes 5 s: each day,
a third of these belongs to the quick tests."""


@pytest.mark.parametrize(("case", "way"), WAYS)
def test_refused_in_one_line(case, way, tmp_path):
    """With exit code 78, the cause and the way out; the store is not touched."""
    before, around, variables, words = CASES[case]
    (tmp_path / "train.py").write_text(TRAIN.format(before=before, around=around))
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "numpy"}))
    head = tmp_path / "runs/train/HEAD.json"
    head.parent.mkdir(parents=True)
    head.write_bytes(b"of an earlier attempt")
    code, out, said = started_by(way, tmp_path, variables)
    assert code == 78, said
    assert "Traceback" not in said
    (line,) = (line for line in said.splitlines() if "refused" in line)
    assert words in line
    assert "fix" in line
    assert "trained" not in out
    assert head.read_bytes() == b"of an earlier attempt"
    assert [path for path in tmp_path.glob("runs/**/*") if path.is_file()] == [head]


def refusal_of(model):
    """The log line of a refused model."""
    resumable = Resumable(run="run")
    with capture_logs() as logs, pytest.raises(Refused):
        resumable.set_model(model)
    (line,) = logs
    return line


def test_parameter_servers():
    """The strategy itself wants a cluster; what it is called when it is refused does not."""
    for kind in (
        tf.distribute.ParameterServerStrategy,
        tf.compat.v1.distribute.experimental.ParameterServerStrategy,
    ):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model._distribute_strategy = object.__new__(kind)
        assert "ParameterServerStrategy" in refusal_of(model)["reason"]


@pytest.mark.parametrize("scope", ["get_strategy", "MirroredStrategy"])
def test_one_machine_is_supported(scope):
    """Without a strategy, and with several devices of one machine."""
    with getattr(tf.distribute, scope)().scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    Resumable(run="run").set_model(model)


def test_this_environment_is_supported():
    """The tests would mean little in another one."""
    environment.check_environment({})
