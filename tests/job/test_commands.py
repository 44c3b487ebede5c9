"""`keepfit ls`, `show`, `verify`, `export` and `prune`, with output as text and as JSON."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import keras
import numpy as np
import pytest
import safetensors.numpy
from typer.testing import CliRunner

from keepfit.callbacks.checkpoint.commit.claim import move_aside
from keepfit.callbacks.checkpoint.format.codec import encode
from keepfit.callbacks.checkpoint.format.keys import head_key, manifest_key, shard_key
from keepfit.callbacks.checkpoint.snapshot import Tensor
from keepfit.callbacks.storage import open_store
from keepfit.callbacks.storage.base import StorageError
from keepfit.callbacks.storage.local import LocalStore
from keepfit.job.cli import app
from keepfit.job.commands.model_config import UnsafeConfig, check_config
from tests.checkpoint.samples import (
    RUN,
    document_at,
    files_under,
    head_of,
    resume,
    snapshot,
    take_over,
    tensor,
    trained,
    write_document,
)
from tests.training.trainings import Training, attempt, preempted, shuffled


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A directory store that the commands find by KEEPFIT_STORE."""
    uri = f"file://{tmp_path}/runs"
    monkeypatch.setenv("KEEPFIT_STORE", uri)
    return open_store(uri)


def keepfit(*args, code=0, **more):
    """Run the command and assert its exit code. Return the result with its output."""
    ended = CliRunner().invoke(app, [str(arg) for arg in args], **more)
    assert ended.exit_code == code, ended.output
    assert not ended.exception or isinstance(ended.exception, SystemExit), ended.exception
    return ended


def parsed(*args, code=0):
    """Run the command with --json. Return the parsed output."""
    return json.loads(keepfit(*args, "--json", code=code).stdout)


def test_ls(store):
    """One line per run: its state, position, size and number of attempts."""
    trained(store, 1, 7)
    attempt = take_over(store)
    resume(store, attempt)
    attempt.commit(snapshot(9, epoch=2, batch=3))
    take_over(store, run="begun")
    done = take_over(store, run="done")
    done.commit(snapshot(5, finished=True))
    runs = {run["run"]: run for run in parsed("ls")}
    assert [(name, run["state"], run["attempts"]) for name, run in runs.items()] == [
        ("begun", "begun", 1),
        ("done", "finished", 1),
        (RUN, "resumable", 2),
    ]
    run = runs[RUN]
    assert (run["fit"], run["epoch"], run["batch"], run["step"]) == (1, 3, 3, 9)
    assert run["size"] > 0
    assert run["saved"].endswith("+00:00")
    lines = keepfit("ls").stdout.splitlines()
    assert lines[0].split()[:2] == ["run", "state"]
    assert any(line.startswith("done") and "finished" in line for line in lines)


def test_ls_of_another_store(store, tmp_path):
    """The store is the argument, or KEEPFIT_STORE; empty stores and other folders are no error."""
    trained(store, 1)
    store.put("photos/cat.jpg", [b"x"])
    assert parsed("ls", f"file://{tmp_path}/elsewhere") == []
    assert [run["run"] for run in parsed("ls", store.uri)] == [RUN]


@pytest.mark.parametrize("damage", ["damaged", "missing"])
def test_ls_of_a_damaged_run(store, tmp_path, damage):
    """It is listed as damaged with the reason; other runs are not affected."""
    trained(store, 1)
    take_over(store, run="sound").commit(snapshot(1))
    head = tmp_path / "runs" / head_key(RUN)
    head.write_text("{") if damage == "damaged" else head.unlink()
    runs = {run["run"]: run for run in parsed("ls")}
    assert (runs[RUN]["state"], runs["sound"]["state"]) == ("damaged", "resumable")
    assert f"HEAD.json is {damage}" in runs[RUN]["reason"]


HEADS = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "20 GB": lambda path: (path.touch(), os.truncate(path, 20 << 30)),
    "a link": lambda path: path.symlink_to("/etc/hostname"),
}


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_that_is_no_document_blinds_no_store(store, tmp_path, kind):
    """It is one line of `ls` and one of `prune`, which go on; `show` ends with one line."""
    trained(store, 1)
    sound = take_over(store, run="sound")
    sound.commit(snapshot(1))
    take_over(store, run="sound")
    store.put(shard_key("sound", "0" * 64, 1), [b"x"])
    head = tmp_path / "runs" / head_key(RUN)
    head.unlink()
    HEADS[kind](head)
    runs = {run["run"]: run for run in parsed("ls")}
    assert (runs[RUN]["state"], runs["sound"]["state"]) == ("damaged", "resumable")
    assert "HEAD.json" in runs[RUN]["reason"]
    assert "HEAD.json" in keepfit("show", RUN, code=78).output
    pruned = keepfit("prune", "--yes", code=78).output
    assert "HEAD.json" in pruned
    assert shard_key("sound", "0" * 64, 1) in pruned
    assert shard_key("sound", "0" * 64, 1) not in files_under(store._root)


def test_a_run_that_may_not_be_read_blinds_no_store(store, monkeypatch):
    """Its line says why; the others are shown."""
    trained(store, 1)
    take_over(store, run="sound").commit(snapshot(1))
    load = LocalStore.load

    def denied(self, key, *limit):
        if key == head_key(RUN):
            raise StorageError(f"{key}: access denied")
        return load(self, key, *limit)

    monkeypatch.setattr(LocalStore, "load", denied)
    runs = {run["run"]: run for run in parsed("ls")}
    assert (runs[RUN]["state"], runs["sound"]["state"]) == ("unreadable", "resumable")
    assert "access denied" in runs[RUN]["reason"]


def test_a_terminal_obeys_nothing_that_a_store_contains(store, tmp_path):
    """Escapes are shown as such, and brackets are no markup."""
    trained(store, 1)
    path = tmp_path / "runs" / head_of(store).checkpoints[0]
    fields = document_at(path)
    fields["state"]["history"] = {"epoch": [0], "history": {"[/red]\x1b[31m": ["\x1b]0;x\x07[b]"]}}
    write_document(path, fields)
    os.mkfifo(tmp_path / "runs" / "[x]\x1b[2J")
    shown = keepfit("show", RUN).stdout + keepfit("ls").stdout
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "[/red]" in shown
    assert "\\x1b]0;x\\x07[b]" in shown


def test_show_of_a_long_history(store):
    """Its lists are arrays in the checkpoint, which the table shows as numbers."""
    arrays = {}
    epochs = range(100)
    history = {"epoch": [*epochs], "history": {"loss": [epoch / 8 for epoch in epochs]}}
    state = {"history": encode(history, "state/history", arrays)}
    before = snapshot(1)
    tensors = [tensor(name, array, "state") for name, array in arrays.items()]
    stored = replace(before, tensors=[*before.tensors, *tensors], state={**before.state, **state})
    take_over(store).commit(stored)
    assert parsed("show", RUN)["history"] == history
    assert re.search(r"^ *100 +12\.375$", keepfit("show", RUN).stdout, re.MULTILINE)


def test_ls_needs_few_requests(store):
    """Only the committed checkpoints are read, however many the run has had."""

    class Counting(type(store)):
        loads = 0

        def load(self, key, *limit):
            type(self).loads += 1
            return super().load(key, *limit)

    from keepfit.callbacks.checkpoint.read.inspection import summarize

    trained(store, *range(1, 30), keep=3)
    counting = Counting(store._root)
    assert summarize(counting, RUN).step == 29
    assert Counting.loads <= 5


def test_show(store):
    """The committed checkpoints, newest first, and the history."""
    trained(store, 1, 7, 9)
    shown = parsed("show", RUN)
    assert [c["position"]["step"] for c in shown["checkpoints"].values()] == [9, 7]
    assert shown["run"]["step"] == 9
    assert all(c["objects"] for c in shown["checkpoints"].values())


def test_ls_and_show_of_a_run_that_was_moved_aside(store):
    """A run that --fresh moved is listed as set aside, with its old name and how to restore it."""
    trained(store, 1)
    move_aside(store, RUN, datetime.now(UTC))
    take_over(store).commit(snapshot(1))
    (aside,) = (run for run in parsed("ls") if run["run"] != RUN)
    assert aside["state"] == "set aside"
    assert f"move its folder back to {store.uri}/{RUN}" in aside["reason"]
    assert aside["reason"] in keepfit("show", aside["run"], code=2).output


def test_verify_and_show_of_a_run_that_saves_meanwhile(store, monkeypatch):
    """Objects that an attempt replaces meanwhile are not reported as lost: HEAD is read again."""
    trained(store, 1, 7, keep=1)
    newer = take_over(store)
    resume(store, newer)
    load, remaining = type(store).load, [9, 8]

    def saving(self, key):
        if "/checkpoints/" in key and remaining:
            newer.commit(snapshot(10 - remaining.pop()))
            newer.commit(snapshot(20))
        return load(self, key)

    monkeypatch.setattr(type(store), "load", saving)
    assert all(entry["problem"] is None for entry in parsed("verify", RUN))
    assert not remaining
    remaining.append(1)
    assert parsed("show", RUN)["run"]["step"] == 20


def test_show_of_a_history_with_arrays(store):
    """A metric that is an array is shown by its type and shape, in the table and in JSON."""
    history = {"epoch": [0], "history": {"each": [{"$array": "state/each"}]}}
    each = Tensor("state/each", "state", "F32", (3,), lambda: memoryview(bytes(12)))
    before = snapshot(1)
    state = {**before.state, "history": history}
    take_over(store).commit(replace(before, tensors=[*before.tensors, each], state=state))
    assert parsed("show", RUN)["history"]["history"] == {"each": ["F32[3]"]}
    assert "F32[3]" in keepfit("show", RUN).stdout


def test_verify_an_intact_run(store):
    """Every object of the committed checkpoints is read once, and is reported without a problem."""
    trained(store, 1, 7, 9)
    entries = parsed("verify", RUN)
    assert {entry["key"] for entry in entries} == {
        name for name in files_under(store._root) if not name.startswith(".")
    }
    assert all(entry["problem"] is None for entry in entries)
    assert keepfit("verify", RUN).stdout.count("ok") == len(entries)


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_verify_names_damaged_objects(store, damage):
    """The key of a changed, truncated or missing shard is named; the exit code is 1."""
    trained(store, 1)
    key = next(name for name in files_under(store._root) if "/shards/" in name)
    path = store._root / key
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    match damage:
        case "flip":
            path.write_bytes(content)
        case "truncate":
            path.write_bytes(content[:-1])
        case "remove":
            path.unlink()
    damaged = [entry for entry in parsed("verify", RUN, code=1) if entry["problem"]]
    assert [entry["key"] for entry in damaged] == [key]
    assert key in damaged[0]["problem"]


def test_prune_deletes_leftovers_of_older_attempts(store):
    """It keeps committed checkpoints and the newest attempt's objects, and asks first."""
    trained(store, 1)
    leftovers = [manifest_key(RUN, 99, 1, 7), shard_key(RUN, "0" * 64, 1)]
    under_way = shard_key(RUN, "1" * 64, 2)
    for key in (*leftovers, under_way):
        store.put(key, [b"x"])
    newer = take_over(store)
    resume(store, newer)
    before = files_under(store._root)
    assert parsed("prune", RUN, "--dry-run") == leftovers
    assert keepfit("prune", RUN, code=1, input="n\n")
    assert files_under(store._root) == before
    keepfit("prune", "--yes")
    assert before - files_under(store._root) == set(leftovers)
    newer.commit(snapshot(2))
    assert head_of(store).checkpoints


def test_prune_of_a_run_that_is_damaged(store):
    """While the objects in use are unknown, nothing is deleted."""
    trained(store, 1)
    take_over(store)
    store.put(shard_key(RUN, "0" * 64, 1), [b"x"])
    (store._root / head_of(store).checkpoints[0]).write_text("{")
    before = files_under(store._root)
    assert "nothing is deleted" in keepfit("prune", "--yes", code=78).output
    assert files_under(store._root) == before


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The store of a real training that was interrupted, and its final model."""
    folder = tmp_path_factory.mktemp("real")
    training = Training(data=shuffled)
    preempted(training, folder, "on_train_batch_end", 8)
    return f"file://{folder}", attempt(training, folder).model


def test_export_safetensors(real, tmp_path):
    """Any reader of safetensors finds the model's variables by their names."""
    uri, model = real
    path = tmp_path / "model.safetensors"
    keepfit("export", "run", "--to", path, "--store", uri)
    arrays = safetensors.numpy.load_file(path)
    kernel = next(array for name, array in arrays.items() if name.endswith("/kernel"))
    assert np.array_equal(kernel, model.layers[-1].kernel.numpy())
    assert not any(name.startswith(("optimizer", "state", "metrics")) for name in arrays)


def test_export_for_keras(real, tmp_path):
    """The model with weights and optimizer, or the weights alone, are exported bit for bit."""
    uri, model = real
    keepfit("export", "run", "--to", tmp_path / "m.keras", "--store", uri)
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for exported, original in zip(loaded.get_weights(), model.get_weights(), strict=True):
        assert np.array_equal(exported, original)
    assert int(loaded.optimizer.iterations) == int(model.optimizer.iterations)
    keepfit("export", "run", "--to", tmp_path / "m.weights.h5", "--store", uri)
    other = keras.models.model_from_json(model.to_json())
    other.load_weights(tmp_path / "m.weights.h5")
    assert np.array_equal(other.layers[-1].kernel.numpy(), model.layers[-1].kernel.numpy())


def partly_frozen():
    """Return a model with two layers of one shape, one of them with a single frozen variable."""
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
    """Variables of one shape are not swapped; the architecture does not record the frozen one."""
    training = Training(model=partly_frozen, data=shuffled, fit={"epochs": 1})
    model = attempt(training, tmp_path / "store").model
    keepfit("export", "run", "--to", tmp_path / "m.keras", "--store", f"file://{tmp_path}/store")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for exported, original in zip(loaded.layers, model.layers, strict=True):
        assert np.array_equal(exported.kernel.numpy(), original.kernel.numpy())


def own_model():
    """Return a model of a class of the script's own, which only the script can build."""

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
    """Return a model with code in its configuration."""
    layers = [keras.Input((4,)), keras.layers.Lambda(lambda x: x), keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.mark.parametrize("make", [own_model, unsafe_model])
def test_export_of_a_model_that_needs_its_script(tmp_path, make):
    """No code from the store is run: the export is refused, and the line names an alternative."""
    attempt(Training(model=make, data=shuffled, fit={"epochs": 1}), tmp_path / "store")
    flags = ("--store", f"file://{tmp_path}/store")
    refused = keepfit("export", "run", "--to", tmp_path / "m.keras", *flags, code=78)
    assert "export to .safetensors instead" in refused.output
    assert not (tmp_path / "m.keras").exists()
    keepfit("export", "run", "--to", tmp_path / "m.safetensors", *flags)
    assert safetensors.numpy.load_file(tmp_path / "m.safetensors")


def forged_architecture(make):
    """Return an architecture of a model with one layer of this configuration."""
    model = json.loads(keras.Sequential([keras.layers.Dense(3, name="d")]).to_json())
    model["config"]["layers"] = [make]
    return {"variables": [], "model": model}


UNSAFE = {
    "a function of another module": {"class_name": "function", "module": "os", "config": "system"},
    "a function of Keras that reads": {
        "class_name": "function",
        "module": "keras.utils",
        "config": "get_file",
    },
    "a class of another module": {"class_name": "Popen", "module": "subprocess", "config": {}},
    "a layer that loads": {"class_name": "TFSMLayer", "module": "keras.layers", "config": {}},
    "a layer that runs code": {"class_name": "Lambda", "module": "keras.layers", "config": {}},
    "a vocabulary in a file": {
        "class_name": "StringLookup",
        "module": "keras.layers",
        "config": {"vocabulary": "/etc/passwd"},
    },
    "within a layer": {
        "class_name": "Dense",
        "module": "keras.layers",
        "config": {
            "units": 1,
            "activation": {"class_name": "function", "module": "os", "config": "system"},
        },
    },
}


@pytest.mark.parametrize("name", UNSAFE)
def test_a_configuration_from_a_store_runs_no_code(name):
    """It is refused before Keras sees it, whatever the version of Keras does with it."""
    with pytest.raises(UnsafeConfig):
        check_config(forged_architecture(UNSAFE[name])["model"])


def layered(inputs):
    x = keras.layers.Dense(4, "relu", kernel_regularizer="l2", kernel_constraint="max_norm")(inputs)
    x = keras.layers.Activation(keras.activations.gelu)(x) + 1
    x = keras.layers.BatchNormalization()(keras.ops.relu(x))
    return keras.layers.Bidirectional(keras.layers.GRU(2))(keras.ops.expand_dims(x, 1))


def test_every_part_of_a_model_of_keras_may_be_named():
    """Functional models, operations, wrappers, schedules and losses are not refused."""
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layered(inputs))
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    model.compile(keras.optimizers.Adam(rate), keras.losses.MeanSquaredError(), ["mae"])
    check_config(json.loads(model.to_json()))


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (("show", "nobody"), 2, "there is no run 'nobody'"),
        (("verify", "nobody"), 2, "there is no run 'nobody'"),
        (("prune", "nobody"), 2, "there is no run 'nobody'"),
        (("export", "nobody", "--to", "m.keras"), 2, "there is no run 'nobody'"),
        (("export", RUN, "--to", "m.txt"), 2, ".keras, .weights.h5 or .safetensors"),
        (("export", RUN, "--to", "no/such/folder/m.keras"), 2, "no folder 'no/such/folder'"),
        (("ls", "ftp://x"), 2, "s3://BUCKET/PREFIX or file://PATH"),
        (("show", "../up"), 78, "is not a valid key of"),
    ],
)
def test_bad_input(store, args, code, text):
    """The output names the bad value, without a traceback; the exit code is defined."""
    trained(store, 1)
    ended = keepfit(*args, code=code)
    assert text in ended.output
    assert "Traceback" not in ended.output


def test_run_without_a_checkpoint(store, tmp_path):
    """The export is refused: there is no checkpoint yet."""
    take_over(store)
    assert parsed("ls")[0]["state"] == "begun"
    assert parsed("show", RUN)["history"] is None
    refused = keepfit("export", RUN, "--to", tmp_path / "m.keras", code=2)
    assert "has no checkpoint yet" in refused.output


def test_append_only_files_are_verified_too(store, tmp_path):
    """verify also reads the parts of append-only files."""
    log = tmp_path / "log.csv"
    log.write_text("a,b\n")
    take_over(store).commit(replace(snapshot(1), append_only_files={str(log): 4}))
    assert sum("/logs/" in entry["key"] for entry in parsed("verify", RUN)) == 1
