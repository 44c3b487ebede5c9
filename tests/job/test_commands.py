"""`keepfit ls`, `show`, `verify`, `export` and `prune`, as a person or a program uses them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import keras
import numpy as np
import pytest
import safetensors.numpy
from typer.testing import CliRunner

from keepfit.callbacks.checkpoint.claim import move_aside
from keepfit.callbacks.checkpoint.manifest import head_key, manifest_key, shard_key
from keepfit.callbacks.checkpoint.snapshot import Tensor
from keepfit.callbacks.storage import open_store
from keepfit.job.cli import app
from tests.checkpoint.samples import RUN, files_under, head_of, resume, snapshot, take_over, trained
from tests.training.trainings import Training, attempt, preempted, shuffled


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A directory store that the commands find by themselves."""
    uri = f"file://{tmp_path}/runs"
    monkeypatch.setenv("KEEPFIT_STORE", uri)
    return open_store(uri)


def keepfit(*args, code=0, **more):
    """What the command prints; it must end with this code."""
    ended = CliRunner().invoke(app, [str(arg) for arg in args], **more)
    assert ended.exit_code == code, ended.output
    assert not ended.exception or isinstance(ended.exception, SystemExit), ended.exception
    return ended


def parsed(*args, code=0):
    """What it prints for programs."""
    return json.loads(keepfit(*args, "--json", code=code).stdout)


def test_ls(store):
    """A line for each run: its state, where it is, its size and how many attempts it took."""
    trained(store, 1, 7)
    attempt = take_over(store)
    resume(store, attempt)
    attempt.commit(snapshot(9, epoch=2, batch=3))
    take_over(store, run="begun")
    done = take_over(store, run="done")
    done.commit(snapshot(5, finished=True))
    found = {run["run"]: run for run in parsed("ls")}
    assert [(name, run["state"], run["attempts"]) for name, run in found.items()] == [
        ("begun", "begun", 1),
        ("done", "finished", 1),
        (RUN, "resumable", 2),
    ]
    run = found[RUN]
    assert (run["fit"], run["epoch"], run["batch"], run["step"]) == (1, 3, 3, 9)
    assert run["size"] > 0
    assert run["saved"].endswith("+00:00")
    lines = keepfit("ls").stdout.splitlines()
    assert lines[0].split()[:2] == ["run", "state"]
    assert any(line.startswith("done") and "finished" in line for line in lines)


def test_ls_of_another_store(store, tmp_path):
    """The store is the argument, or KEEPFIT_STORE; an empty one is no error, nor other folders."""
    trained(store, 1)
    store.put("photos/cat.jpg", [b"x"])
    assert parsed("ls", f"file://{tmp_path}/elsewhere") == []
    assert [run["run"] for run in parsed("ls", store.uri)] == [RUN]


@pytest.mark.parametrize("harm", ["damaged", "missing"])
def test_ls_of_a_damaged_run(store, tmp_path, harm):
    """It is listed as damaged with the reason, and the other runs as they are."""
    trained(store, 1)
    take_over(store, run="sound").commit(snapshot(1))
    head = tmp_path / "runs" / head_key(RUN)
    head.write_text("{") if harm == "damaged" else head.unlink()
    found = {run["run"]: run for run in parsed("ls")}
    assert (found[RUN]["state"], found["sound"]["state"]) == ("damaged", "resumable")
    assert f"HEAD.json is {harm}" in found[RUN]["reason"]


def test_ls_needs_few_requests(store):
    """However many checkpoints a run has had, only those in force are looked at."""

    class Counting(type(store)):
        loads = 0

        def load(self, key):
            type(self).loads += 1
            return super().load(key)

    from keepfit.callbacks.checkpoint.inspection import summarize

    trained(store, *range(1, 30), keep=3)
    counting = Counting(store._root)
    assert summarize(counting, RUN).step == 29
    assert Counting.loads <= 5


def test_show(store):
    """The checkpoints in force, the newest first, and the history."""
    trained(store, 1, 7, 9)
    shown = parsed("show", RUN)
    assert [c["position"]["step"] for c in shown["checkpoints"].values()] == [9, 7]
    assert shown["run"]["step"] == 9
    assert all(c["objects"] for c in shown["checkpoints"].values())


def test_looking_at_a_run_that_was_moved_aside(store):
    """What --fresh has moved is no run of its own: it says which one it was, and the way back."""
    trained(store, 1)
    move_aside(store, RUN, datetime.now(UTC))
    take_over(store).commit(snapshot(1))
    (aside,) = (run for run in parsed("ls") if run["run"] != RUN)
    assert aside["state"] == "set aside"
    assert f"move its folder back to {store.uri}/{RUN}" in aside["reason"]
    assert aside["reason"] in keepfit("show", aside["run"], code=2).output


def test_looking_at_a_run_that_saves_meanwhile(store, monkeypatch):
    """What an attempt replaces while it is read is not reported as lost: it is looked at anew."""
    trained(store, 1, 7, keep=1)
    newer = take_over(store)
    resume(store, newer)
    load, left = type(store).load, [9, 8]

    def saving(self, key):
        if "/checkpoints/" in key and left:
            newer.commit(snapshot(10 - left.pop()))
            newer.commit(snapshot(20))
        return load(self, key)

    monkeypatch.setattr(type(store), "load", saving)
    assert all(found["problem"] is None for found in parsed("verify", RUN))
    assert not left
    left.append(1)
    assert parsed("show", RUN)["run"]["step"] == 20


def test_show_of_a_history_that_holds_arrays(store):
    """A metric of several numbers: its type and shape stand for it, in the table and in JSON."""
    history = {"epoch": [0], "history": {"each": [{"$array": "state/each"}]}}
    each = Tensor("state/each", "state", "F32", (3,), lambda: memoryview(bytes(12)))
    before = snapshot(1)
    state = {**before.state, "history": history}
    take_over(store).commit(replace(before, tensors=[*before.tensors, each], state=state))
    assert parsed("show", RUN)["history"]["history"] == {"each": ["F32[3]"]}
    assert "F32[3]" in keepfit("show", RUN).stdout


def test_verify_a_sound_run(store):
    """Every object in force is read, once, and is what was written."""
    trained(store, 1, 7, 9)
    found = parsed("verify", RUN)
    assert {f["key"] for f in found} == {
        name for name in files_under(store._root) if not name.startswith(".")
    }
    assert all(f["problem"] is None for f in found)
    assert keepfit("verify", RUN).stdout.count("ok") == len(found)


@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_verify_names_what_is_wrong(store, harm):
    """Of a shard that was changed, cut or lost, the key is named; the exit code is 1."""
    trained(store, 1)
    key = next(name for name in files_under(store._root) if "/shards/" in name)
    path = store._root / key
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    match harm:
        case "flip":
            path.write_bytes(content)
        case "cut":
            path.write_bytes(content[:-1])
        case "remove":
            path.unlink()
    wrong = [f for f in parsed("verify", RUN, code=1) if f["problem"]]
    assert [f["key"] for f in wrong] == [key]
    assert key in wrong[0]["problem"]


def test_prune_deletes_what_older_attempts_left(store):
    """Not what is in force, not what the newest attempt is at, and only after a yes."""
    trained(store, 1)
    left = [manifest_key(RUN, 99, 1, 7), shard_key(RUN, "0" * 64, 1)]
    under_way = shard_key(RUN, "1" * 64, 2)
    for key in (*left, under_way):
        store.put(key, [b"x"])
    newer = take_over(store)
    resume(store, newer)
    before = files_under(store._root)
    assert parsed("prune", RUN, "--dry-run") == left
    assert keepfit("prune", RUN, code=1, input="n\n")
    assert files_under(store._root) == before
    keepfit("prune", "--yes")
    assert before - files_under(store._root) == set(left)
    newer.commit(snapshot(2))
    assert head_of(store).checkpoints


def test_prune_of_a_run_that_is_damaged(store):
    """While it is not known what is needed, nothing is deleted."""
    trained(store, 1)
    take_over(store)
    store.put(shard_key(RUN, "0" * 64, 1), [b"x"])
    (store._root / head_of(store).checkpoints[0]).write_text("{")
    before = files_under(store._root)
    assert "nothing is deleted" in keepfit("prune", "--yes", code=78).output
    assert files_under(store._root) == before


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The store of a real training that was interrupted, and the model that it ended with."""
    folder = tmp_path_factory.mktemp("real")
    training = Training(data=shuffled)
    preempted(training, folder, "on_train_batch_end", 8)
    return f"file://{folder}", attempt(training, folder).model


def test_export_safetensors(real, tmp_path):
    """Any reader of safetensors finds the model's variables by their names."""
    uri, model = real
    path = tmp_path / "model.safetensors"
    keepfit("export", "run", "--to", path, "--store", uri)
    found = safetensors.numpy.load_file(path)
    kernel = next(array for name, array in found.items() if name.endswith("/kernel"))
    assert np.array_equal(kernel, model.layers[-1].kernel.numpy())
    assert not any(name.startswith(("optimizer", "state", "metrics")) for name in found)


def test_export_for_keras(real, tmp_path):
    """The whole model with its weights and its optimizer, or its weights, bit for bit."""
    uri, model = real
    keepfit("export", "run", "--to", tmp_path / "m.keras", "--store", uri)
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for ours, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        assert np.array_equal(ours, theirs)
    assert int(loaded.optimizer.iterations) == int(model.optimizer.iterations)
    keepfit("export", "run", "--to", tmp_path / "m.weights.h5", "--store", uri)
    other = keras.models.model_from_json(model.to_json())
    other.load_weights(tmp_path / "m.weights.h5")
    assert np.array_equal(other.layers[-1].kernel.numpy(), model.layers[-1].kernel.numpy())


def partly_frozen():
    """Two layers of one shape, one of them with a single variable that is not trained."""
    layers = [
        keras.Input((4,)),
        keras.layers.Dense(4),
        keras.layers.Dense(4),
        keras.layers.Dense(3),
    ]
    model = keras.Sequential(layers)
    model.layers[0].kernel.trainable = False
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def test_export_of_a_model_with_one_frozen_variable(tmp_path):
    """Variables of one shape don't change places: what is frozen is no part of an architecture."""
    training = Training(model=partly_frozen, data=shuffled, fit={"epochs": 1})
    model = attempt(training, tmp_path / "store").model
    keepfit("export", "run", "--to", tmp_path / "m.keras", "--store", f"file://{tmp_path}/store")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for ours, theirs in zip(loaded.layers, model.layers, strict=True):
        assert np.array_equal(ours.kernel.numpy(), theirs.kernel.numpy())


def own_model():
    """A class of the script's own, which nobody else can build."""

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, x):
            return self.dense(x)

    model = Own()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def unsafe_model():
    """One with code in its configuration."""
    layers = [keras.Input((4,)), keras.layers.Lambda(lambda x: x), keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.mark.parametrize("make", [own_model, unsafe_model])
def test_export_of_a_model_that_needs_its_script(tmp_path, make):
    """No code from the store is run: it is said why not, and what works."""
    attempt(Training(model=make, data=shuffled, fit={"epochs": 1}), tmp_path / "store")
    flags = ("--store", f"file://{tmp_path}/store")
    refused = keepfit("export", "run", "--to", tmp_path / "m.keras", *flags, code=78)
    assert "export to .safetensors instead" in refused.output
    assert not (tmp_path / "m.keras").exists()
    keepfit("export", "run", "--to", tmp_path / "m.safetensors", *flags)
    assert safetensors.numpy.load_file(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("show", "nobody"), 2, "there is no run 'nobody'"),
        (("verify", "nobody"), 2, "there is no run 'nobody'"),
        (("prune", "nobody"), 2, "there is no run 'nobody'"),
        (("export", "nobody", "--to", "m.keras"), 2, "there is no run 'nobody'"),
        (("export", RUN, "--to", "m.txt"), 2, ".keras, .weights.h5 or .safetensors"),
        (("export", RUN, "--to", "no/such/folder/m.keras"), 2, "no folder 'no/such/folder'"),
        (("ls", "ftp://x"), 2, "s3://BUCKET/PREFIX or file://PATH"),
        (("show", "../up"), 78, "is no key of"),
    ],
)
def test_bad_input(store, args, code, says):
    """One line that names the thing, and a defined exit code."""
    trained(store, 1)
    ended = keepfit(*args, code=code)
    assert says in ended.output
    assert "Traceback" not in ended.output


def test_run_that_has_not_saved_anything(store, tmp_path):
    """There is nothing to export yet, and that is said."""
    take_over(store)
    assert parsed("ls")[0]["state"] == "begun"
    assert parsed("show", RUN)["history"] is None
    refused = keepfit("export", RUN, "--to", tmp_path / "m.keras", code=2)
    assert "has no checkpoint yet" in refused.output


def test_logs_are_verified_too(store, tmp_path):
    """The parts of append-only files are among what is read."""
    log = tmp_path / "log.csv"
    log.write_text("a,b\n")
    take_over(store).commit(replace(snapshot(1), append_only_files={str(log): 4}))
    assert sum("/logs/" in f["key"] for f in parsed("verify", RUN)) == 1
