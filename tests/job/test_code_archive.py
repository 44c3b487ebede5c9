"""The job's side: a submitted folder on a machine that has nothing but the store."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from keepfit.callbacks.storage import open_store
from keepfit.infra.jobs.bundle import pack_bundle
from keepfit.job.code_archive import download_archive, upload_archive
from tests.e2e import process
from tests.s3.proxy import Proxy, at, stalled_after
from tests.s3.samples import client_at, store_of

TRAINING = """
import os, signal, sys
from pathlib import Path
import keras, numpy as np
from keepfit import CSVLogger, Resumable

class Stop(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 2 and sys.argv[1:] == ["stop"]:
            os.kill(os.getpid(), signal.SIGTERM)

model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
log = Path(__file__).with_name("log.csv")
held = Resumable([CSVLogger(str(log)), Stop()])
model.fit(np.ones((8, 2)), np.ones(8), epochs=5, verbose=0, callbacks=[held])
print([line.partition(",")[0] for line in log.read_text().splitlines()])
"""


def sent(store, folder):
    """The digest of the folder, which is in the store now."""
    bundle = pack_bundle(folder)
    upload_archive(open_store(store), bundle)
    return bundle.digest


@pytest.fixture
def machine(tmp_path):
    """Makes an attempt on a machine that has nothing of any other but the store."""
    store = f"file://{tmp_path}/store"
    temporary = tmp_path / "tmp"

    def attempt(code, *args, **env):
        temporary.mkdir()
        try:
            options = ("--store", "file://./store", "--run", "mine", "--code", code)
            return process.run(tmp_path, *options, *args, TMPDIR=str(temporary), **env)
        finally:
            temporary.rename(temporary.with_name(f"gone-{len(list(tmp_path.iterdir()))}"))

    attempt.store = store
    attempt.temporary = temporary
    return attempt


def test_files_beside_the_script_come_back(machine, script):
    """A script may name them by where it lies itself: on every machine, that is the same place.

    So it is for code that has changed since.
    """
    script.write_text(TRAINING)
    first = machine(sent(machine.store, script.parent), "train.py", "stop")
    assert first.code == 75, first.err
    (script.parent / "helper.py").write_text("NAME = 'changed'\n")
    second = machine(sent(machine.store, script.parent), "train.py")
    assert second.code == 0, second.err
    assert second.one("resumed")["epoch"] >= 3
    assert second.out == "['epoch', '0', '1', '2', '3', '4']\n"


def test_code_is_sent_once(bucket, tmp_path, script):
    """Not even to be told that it is there already."""
    with Proxy() as proxy:
        store = store_of(client_at(proxy.url), f"{bucket}/{tmp_path.name}")
        for _ in range(2):
            upload_archive(store, pack_bundle(script.parent))
        assert [r.method for r in proxy.requests].count("PUT") == 1


def test_a_machine_that_has_an_older_code(tmp_path, script):
    """A container that is started again: nothing of the old code is left beside the new."""
    store = f"file://{tmp_path}/store"
    before = download_archive(open_store(store), sent(store, script.parent), "mine")
    (script.parent / "helper.py").unlink()
    after = download_archive(open_store(store), sent(store, script.parent), "mine")
    assert after == before
    assert not (after / "helper.py").exists()


@pytest.mark.parametrize("is_there", ["file", "link"])
def test_a_folder_that_somebody_else_has_made(machine, script, tmp_path, is_there):
    """Its name can be guessed, so it is not trusted: one line, and 78."""
    code = sent(machine.store, script.parent)
    there = tmp_path / "keepfit-mine"
    there.touch() if is_there == "file" else there.symlink_to(script.parent)
    options = ("--store", machine.store, "--run", "mine", "--code", code)
    ended = process.run(tmp_path, *options, "train.py", TMPDIR=str(tmp_path))
    assert ended.code == 78
    assert "is no folder of this user's" in ended.one("refused")["reason"]
    assert script.exists()


def test_a_script_that_is_not_in_the_code(machine, script):
    """One line, and 78, as another attempt would find no more."""
    ended = machine(sent(machine.store, script.parent), "other.py")
    assert ended.code == 78
    assert "there is no script 'other.py' in the code" in ended.one("refused")["reason"]


def test_stopped_while_the_code_is_on_its_way(tmp_path, bucket, script):
    """SIGTERM means what it means later: 75, on which AWS Batch makes the next attempt."""
    store = f"{bucket}/{Path(tmp_path).name}"
    code = sent(store, script.parent)
    with Proxy() as proxy:
        proxy.arm(at(0, stalled_after))
        options = ("--store", store, "--run", "mine", "--code", code)
        env = {"AWS_ENDPOINT_URL_S3": proxy.url, "TMPDIR": str(tmp_path)}
        with process.started(tmp_path, *options, "train.py", **env) as running:
            proxy.wait_for_requests(1)
            running.send(signal.SIGTERM)
            ended = running.wait()
    assert ended.code == 75, ended.err
    assert ended.one("preempted")["source"] == "SIGTERM"
