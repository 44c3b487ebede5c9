"""Notebooks in real kernels, executed by papermill and nbclient."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.process import ROOT

NAME = """
from keepfit.callbacks.launch import process
print("NAME", process.current().name)
try:
    process.default_run_name()
except process.NoRunName as error:
    print("ERROR", error)
"""
REFUSED = "from keepfit import Refused\nraise Refused"
SERVER = """
import os, sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], 4)
client = nbclient.NotebookClient(notebook)
client.execute(env={**os.environ, "JPY_SESSION_NAME": "folder/cats.ipynb"})
nbformat.write(notebook, sys.argv[2])
"""


def write_notebook(path: Path, *cells: str) -> None:
    kernel = {"name": "python3", "display_name": "Python", "language": "python"}
    code = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    content = [code | {"source": text, "id": f"cell-{n}"} for n, text in enumerate(cells)]
    document = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}}
    path.write_text(json.dumps(document | {"cells": content}))


def printed(path: Path) -> str:
    """Return what the cells of an executed notebook have printed."""
    cells = json.loads(path.read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    return "".join("".join(output.get("text", ())) for output in outputs)


def execute(folder: Path, *command: str | Path, **variables: str) -> int:
    """Execute `cats.ipynb` into `out.ipynb` without the variables of this process's own server."""
    left_out = ("KEEPFIT_", "JPY_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(left_out)}
    environment |= {"PYTHONPATH": str(ROOT / "src"), "IPYTHONDIR": str(folder / "ipython")}
    started = [sys.executable, *command, "cats.ipynb", "out.ipynb"]
    ended = subprocess.run(started, cwd=folder, env=environment | variables, capture_output=True)
    return ended.returncode


def test_papermill(tmp_path):
    """It tells no name, so the log asks for one; a refusal ends the notebook and papermill."""
    write_notebook(tmp_path / "cats.ipynb", NAME, REFUSED, "print('NEXT')")
    assert execute(tmp_path, "-m", "papermill", JPY_SESSION_NAME="outer.ipynb") == 1
    out = printed(tmp_path / "out.ipynb")
    assert "NAME None" in out
    assert "KEEPFIT_RUN=NAME" in out
    assert "NEXT" not in out, "a cell after a refused training is executed"


def test_server(tmp_path):
    """A server that names the notebook gives the run its name."""
    write_notebook(tmp_path / "cats.ipynb", NAME)
    assert execute(tmp_path, "-c", SERVER) == 0
    assert "NAME cats\n" in printed(tmp_path / "out.ipynb")


TRAINING = """
import hashlib, os, signal, time
from pathlib import Path
import keras, numpy as np
from keepfit import Resumable

class Killer(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 5 and not Path("killed").exists():
            Path("killed").touch()
            while "cats/checkpoints/" not in Path("runs/cats/HEAD.json").read_text():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

keras.utils.set_random_seed(1)
x = np.random.default_rng(0).normal(size=(320, 4)).astype("float32")
layers = [keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dropout(0.5)]
model = keras.Sequential([*layers, keras.layers.Dense(1)])
model.compile("adam", "mse")
callbacks = [Resumable([Killer()], save_every="2 batches")]
history = model.fit(x, x[:, :1], epochs=2, batch_size=32, callbacks=callbacks, verbose=0)
weights = b"".join(w.tobytes() for w in model.get_weights())
print("RESULT", hashlib.sha256(weights).hexdigest(), history.history)
"""


def result(folder: Path) -> str:
    lines = printed(folder / "out.ipynb").splitlines()
    return next(line for line in lines if line.startswith("RESULT"))


@pytest.mark.soak
def test_killed_kernel(tmp_path):
    """papermill started again continues the training of the killed kernel, to the same result."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        write_notebook(folder / "cats.ipynb", TRAINING)
    (whole / "killed").touch()
    assert execute(whole, "-m", "papermill", KEEPFIT_RUN="cats") == 0
    assert execute(killed, "-m", "papermill", KEEPFIT_RUN="cats") != 0
    assert execute(killed, "-m", "papermill", KEEPFIT_RUN="cats") == 0
    assert "resumed" in printed(killed / "out.ipynb")
    assert result(killed) == result(whole)
