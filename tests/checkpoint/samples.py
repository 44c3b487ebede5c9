"""Snapshots that are told apart by their step, and what must hold of a run at any time."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np

from keepfit.callbacks.checkpoint.claim import claim_run
from keepfit.callbacks.checkpoint.codec import encode
from keepfit.callbacks.checkpoint.manifest import Head, head_key
from keepfit.callbacks.checkpoint.reader import read_checkpoint, read_newest_usable
from keepfit.callbacks.checkpoint.retention import KeepNewest
from keepfit.callbacks.checkpoint.shards import MIN_SHARED_SIZE
from keepfit.callbacks.checkpoint.snapshot import (
    NUMPY_DTYPES,
    Position,
    Snapshot,
    Tensor,
    array_bytes,
)
from keepfit.callbacks.storage.local import LocalStore

RUN = "run"
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where stores of the tests are: a killed process loses nothing there either, and it is fast."""

VERSIONS = {"keepfit": "0", "keras": "1"}


def tensor(name, array, group="model"):
    dtype = NUMPY_DTYPES[array.dtype.name]
    return Tensor(name, group, dtype, array.shape, lambda: array_bytes(array))


def arrays_of(step):
    """The weights at a step; the frozen ones are the same for a hundred, and worth sharing."""
    random = np.random.default_rng(step)
    frozen = np.arange(MIN_SHARED_SIZE // 4, dtype=np.int32)
    return {
        "model/kernel": random.normal(size=(7, 5)).astype(np.float32),
        "model/bias": random.normal(size=5),
        "optimizer/count": np.asarray(step, np.int64),
        "optimizer/none": np.empty((0, 3), np.float16),
        "frozen/table": frozen + step // 100 % 2,
        "data/iterator": random.integers(0, 256, 100 + step % 7).astype(np.uint8),
    }


def state_of(step):
    """What callbacks remember at a step."""
    return {
        "best": np.float32(step / 3),
        "worst": math.nan,
        "history": [step, -0.0, 1e300, "ä"],
        "nested": {"shape": (step, None), 7: {"$odd": b"\0\xff"}, "seen": {1, 2, step}},
        "moving": np.full(3, step, np.float64),
    }


def snapshot(step, **position):
    arrays = dict(arrays_of(step))
    encoded = {}
    state = encode(state_of(step), "state", encoded)
    tensors = [tensor(name, array, name.split("/")[0]) for name, array in arrays.items()]
    iterator = tensors.pop()
    tensors.append(Tensor(iterator.name, "data", "U8", None, iterator.host))
    tensors += [tensor(name, array, "state") for name, array in encoded.items()]
    return Snapshot(Position(step=step, **position), tensors, state)


def take_over(store, keep=2, run=RUN):
    return claim_run(store, run, retention=KeepNewest(keep), versions=VERSIONS)


def resume(store, attempt, fit=0):
    """As a training begins: the newest usable checkpoint, from which the attempt goes on."""
    found = read_newest_usable(store, attempt.head.run, attempt.head.checkpoints, fit=fit)
    if found:
        attempt.resume_from(found.key, found.manifest)
    return found


def trained(store, *steps, keep=2):
    """A run with a checkpoint at each of the steps; returns its attempt."""
    attempt = take_over(store, keep)
    for step in steps:
        attempt.commit(snapshot(step))
    return attempt


def assert_is(checkpoint, step):
    """It is bit for bit what was captured at `step`."""
    assert checkpoint is not None, "nothing to resume from"
    assert checkpoint.manifest.position.step == step
    for name, array in arrays_of(step).items():
        found = checkpoint.arrays[name]
        assert (found.dtype, found.shape) == (array.dtype, array.shape), name
        assert found.tobytes() == array.tobytes(), name
    assert same(checkpoint.state, state_of(step)), checkpoint.state


def same(one, other):
    """Equal with types, signs of zero, and NaN equal to itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray | np.generic):
        alike = (one.dtype, one.shape) == (other.dtype, other.shape)
        return alike and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            same(key, twin) and same(item, counterpart)
            for (key, item), (twin, counterpart) in zip(one.items(), other.items(), strict=True)
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, set | frozenset):
        return len(one) == len(other) and all(
            map(same, sorted(one, key=repr), sorted(other, key=repr))
        )
    if isinstance(one, float):
        return repr(one) == repr(other)
    return one == other


def parsed(kind, content):
    """A document from its bytes, as the product reads it."""
    return kind.from_bytes(content)


def document_at(path):
    """The fields of a document, to be changed."""
    return json.loads(path.read_bytes())["document"]


def write_document(path, fields):
    """Whatever the fields are, the document is written as the product would write it."""
    document = json.dumps(fields)
    digest = hashlib.sha256(document.encode()).hexdigest()
    path.write_text(f'{{"sha256":"{digest}","document":{document}}}')


def head_of(store, run=RUN):
    return parsed(Head, store.load(head_key(run))[0])


def assert_all_in_force_verifies(store, run=RUN):
    """Everything that HEAD names can be read, and is what was captured at its step."""
    for key in head_of(store, run).manifests():
        found = read_checkpoint(store, run, key)
        assert_is(found, found.manifest.position.step)


def files_under(folder):
    """Every file, the hidden and the temporary ones too."""
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def assert_no_orphans(root, run=RUN):
    """There is nothing under the run but HEAD and what the manifests that it names consist of."""
    store = LocalStore(root)
    head = head_of(store, run)
    shards = {
        shard.key
        for key in head.manifests()
        for shard in read_checkpoint(store, run, key).manifest.shards
    }
    named = {head_key(run), *head.manifests(), *shards}
    assert {f"{run}/{name}" for name in files_under(root / run)} == named
