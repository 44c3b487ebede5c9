"""The notifications of real attempts: preempted, resumed, finished, stalled and failed."""

from __future__ import annotations

import os
import time

from tests.e2e.process import SMALL, started
from tests.servers.webhook import webhook

FLAGS = ("--deterministic", "--resume", "--save-every", "1h")
STALLS = """
import sys
import keras, numpy

class Waits(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            open(sys.argv[1]).read()

model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
ones = numpy.ones((32, 4), "float32")
model.fit(ones, ones[:, :1], batch_size=4, verbose=0, callbacks=[Waits()])
raise ValueError("the password is hunter2")
"""
"""A fit whose third batch ends when something has been written to a pipe."""


def test_preempted_resumed_finished(tmp_path):
    """One server hangs: the end waits for it for a second, and the run takes no notice of it."""
    with webhook() as hook, webhook() as hanging:
        hanging.answering.clear()
        secret = hook.url.replace("://", "://me:hunter2@")
        addresses = ("--notify", f"{secret}/hidden", "--notify", hanging.url)
        kill = ("--kill", "batch_end:1:5:SIGTERM")
        with started(tmp_path, *FLAGS, *addresses, SMALL, "numpy", *kill) as attempt:
            attempt.until_event("preempted")
            began = time.monotonic()
            first = attempt.wait()
            took = time.monotonic() - began
        preempted = hook.await_event("preempted")
        with started(tmp_path, *FLAGS, SMALL, "numpy", KEEPFIT_NOTIFY=secret) as attempt:
            second = attempt.wait()
    assert (first.code, second.code) == (75, 0), first.err + second.err
    assert took < 10
    assert first.one("notify_failed")["reason"] == f"{hanging.url} has not answered within 1.0 s"
    assert second.named("notify_failed") == []
    assert hook.names == ["preempted", "resumed", "finished"]
    assert (preempted["reason"], preempted["exit_code"]) == ("SIGTERM", 75)
    assert [document["attempt"] for document in hook.documents] == [1, 2, 2]
    assert {document["run"] for document in hook.documents} == {"small"}
    resumed, finished = hook.documents[1:]
    logged = second.one("resumed")
    assert (resumed["step"], resumed["epoch"]) == (logged["step"], logged["epoch"])
    assert (preempted["step"], preempted["epoch"]) == (logged["step"], logged["epoch"])
    assert (finished["step"], finished["exit_code"]) == (second.one("finished")["step"], 0)
    for text in (first.err, second.err, str(hook.documents)):
        assert "hunter2" not in text
        assert "hidden" not in text


def test_stalled_and_failed(tmp_path):
    """The notification arrives while the batch lasts; no text of the script is sent."""
    pipe, script = tmp_path / "pipe", tmp_path / "train.py"
    os.mkfifo(pipe)
    script.write_text(STALLS)
    with webhook() as hook:
        flags = ("--notify", hook.url, "--stalled-after", "0.5s", "--save-every", "1h")
        with started(tmp_path, *flags, script, pipe) as attempt:
            stalled = hook.await_event("stalled")
            pipe.write_text("go on")
            ended = attempt.wait()
    assert ended.code == 1, ended.err
    assert ended.one("stalled")["step"] == stalled["step"] == 2
    assert hook.names == ["stalled", "failed"]
    failed = hook.documents[1]
    assert (failed["run"], failed["step"], failed["exit_code"]) == ("train", 8, 1)
    assert "hunter2" in ended.err
    assert "hunter2" not in str(hook.documents)
