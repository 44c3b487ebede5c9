"""The job's side: a submitted folder on a machine that has only the store."""

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
import os, signal
from pathlib import Path
import keras, numpy as np
from keepfit import CSVLogger, Resumable

class Stop(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 2 and os.environ.get("STOP"):
            os.kill(os.getpid(), signal.SIGTERM)

model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
log = Path(__file__).with_name("log.csv")
held = Resumable([CSVLogger(str(log)), Stop()])
model.fit(np.ones((8, 2)), np.ones(8), epochs=5, verbose=0, callbacks=[held])
print([line.partition(",")[0] for line in log.read_text().splitlines()])
"""


def upload(store, folder):
    """Upload the folder to the store. Return its digest."""
    bundle = pack_bundle(folder)
    upload_archive(open_store(store), bundle)
    return bundle.digest


@pytest.fixture
def machine(tmp_path):
    """Return a function that makes an attempt on a new machine, which shares only the store."""
    store = f"file://{tmp_path}/store"
    temporary = tmp_path / "tmp"

    def attempt(code, *args, **env):
        temporary.mkdir()
        try:
            options = ("--store", "file://./store", "--run", "mine", "--code", code)
            return process.run(tmp_path, *options, *args, TMPDIR=str(temporary), **env)
        finally:
            temporary.rename(temporary.with_name(f"previous-{len(list(tmp_path.iterdir()))}"))

    attempt.store = store
    attempt.temporary = temporary
    return attempt


def test_files_beside_the_script_are_restored(machine, script):
    """A script may name files relative to its own path, which is the same on every machine.

    The same holds for code that has changed between attempts.
    """
    script.write_text(TRAINING)
    first = machine(upload(machine.store, script.parent), "train.py", STOP="1")
    assert first.code == 75, first.err
    (script.parent / "helper.py").write_text("NAME = 'changed'\n")
    second = machine(upload(machine.store, script.parent), "train.py")
    assert second.code == 0, second.err
    assert second.one("resumed")["epoch"] >= 3
    assert second.out == "['epoch', '0', '1', '2', '3', '4']\n"


def test_code_is_uploaded_once(bucket, tmp_path, script):
    """For code that is in the store already, no further PUT request is made."""
    with Proxy() as proxy:
        store = store_of(client_at(proxy.url), f"{bucket}/{tmp_path.name}")
        for _ in range(2):
            upload_archive(store, pack_bundle(script.parent))
        assert [r.method for r in proxy.requests].count("PUT") == 1


def test_a_machine_with_older_code(tmp_path, script):
    """In a restarted container, no file of the old code is left beside the new code."""
    store = f"file://{tmp_path}/store"
    before = download_archive(open_store(store), upload(store, script.parent), "mine")
    (script.parent / "helper.py").unlink()
    after = download_archive(open_store(store), upload(store, script.parent), "mine")
    assert after == before
    assert not (after / "helper.py").exists()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_folder_that_another_user_has_created(machine, script, tmp_path, kind):
    """The code folder's name is predictable, so an existing path is refused: one line, and 78."""
    code = upload(machine.store, script.parent)
    existing = tmp_path / "keepfit-mine"
    existing.touch() if kind == "file" else existing.symlink_to(script.parent)
    options = ("--store", machine.store, "--run", "mine", "--code", code)
    ended = process.run(tmp_path, *options, "train.py", TMPDIR=str(tmp_path))
    assert ended.code == 78
    assert "exists already, and is not a folder of this user" in ended.one("refused")["reason"]
    assert script.exists()


def test_a_script_that_is_not_in_the_code(machine, script):
    """A script that is not in the code is one line and 78: a retry would not find it either."""
    ended = machine(upload(machine.store, script.parent), "other.py")
    assert ended.code == 78
    assert "in the submitted code, there is no script 'other.py'" in ended.one("refused")["reason"]


def test_stopped_while_the_code_is_downloaded(tmp_path, bucket, script):
    """SIGTERM during the download exits with 75, for which AWS Batch starts the next attempt."""
    store = f"{bucket}/{Path(tmp_path).name}"
    code = upload(store, script.parent)
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
