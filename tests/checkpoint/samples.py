"""Sample snapshots, which differ by their step, and assertions that hold for a run at any time."""

import hashlib
import json
import math
from collections import deque
from pathlib import Path

import numpy as np

from keepfit.callbacks.checkpoint.commit.claim import claim_run
from keepfit.callbacks.checkpoint.format.codec import encode
from keepfit.callbacks.checkpoint.format.dtypes import NUMPY_DTYPES
from keepfit.callbacks.checkpoint.format.head import Head
from keepfit.callbacks.checkpoint.format.keys import head_key
from keepfit.callbacks.checkpoint.format.position import Position
from keepfit.callbacks.checkpoint.format.shards import MIN_SHARED_SIZE
from keepfit.callbacks.checkpoint.read.reader import read_checkpoint, read_newest_usable
from keepfit.callbacks.checkpoint.retention import KeepNewest
from keepfit.callbacks.checkpoint.snapshot import Snapshot, Tensor, array_bytes
from keepfit.callbacks.storage.local import LOCK, LocalStore

RUN = "run"
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""The folder for the stores of the tests: it is fast, and a killed process loses nothing in it."""

VERSIONS = {"keepfit": "0", "keras": "1"}


def tensor(name, array, group="model"):
    """Return a tensor whose content is this array."""
    dtype = NUMPY_DTYPES[array.dtype.name]
    return Tensor(name, group, dtype, array.shape, lambda: array_bytes(array))


def arrays_of(step):
    """Return the weights at a step.

    The frozen ones change only every hundred steps, and are large enough to be shared.
    """
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
    """Return a state of callbacks at a step, with values of many types."""
    return {
        "best": np.float32(step / 3),
        "worst": math.nan,
        "history": [step, -0.0, 1e300, "ä"],
        "nested": {"shape": (step, None), 7: {"$odd": b"\0\xff"}, "seen": {1, 2, step}},
        "moving": np.full(3, step, np.float64),
    }


def snapshot(step, **position):
    """Return a snapshot with the arrays and the state of this step."""
    arrays = dict(arrays_of(step))
    encoded = {}
    state = encode(state_of(step), "state", encoded)
    tensors = [tensor(name, array, name.split("/")[0]) for name, array in arrays.items()]
    iterator = tensors.pop()
    tensors.append(Tensor(iterator.name, "data", "U8", None, iterator.host))
    tensors += [tensor(name, array, "state") for name, array in encoded.items()]
    return Snapshot(Position(step=step, **position), tensors, state)


def take_over(store, keep=2, run=RUN):
    """Claim the run and return the new attempt."""
    return claim_run(store, run, retention=KeepNewest(keep), versions=VERSIONS)


def resume(store, attempt, fit=0):
    """Return the newest usable checkpoint, if any, and let the attempt resume from it."""
    found = read_newest_usable(store, attempt.head.run, attempt.head.checkpoints, fit=fit)
    if found:
        attempt.resume_from(found.key, found.manifest)
    return found


def trained(store, *steps, keep=2):
    """Claim the run, commit a checkpoint at each of the steps, and return the attempt."""
    attempt = take_over(store, keep)
    for step in steps:
        attempt.commit(snapshot(step))
    return attempt


def assert_is(checkpoint, step):
    """Assert that the checkpoint is bit for bit what was captured at `step`."""
    assert checkpoint is not None, "nothing to resume from"
    assert checkpoint.manifest.position.step == step
    for name, array in arrays_of(step).items():
        found = checkpoint.arrays[name]
        assert (found.dtype, found.shape) == (array.dtype, array.shape), name
        assert found.tobytes() == array.tobytes(), name
    assert same(checkpoint.state, state_of(step)), checkpoint.state


def same(one, other):
    """Return True if both are equal, including types and signs of zero; NaN equals itself."""
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
    if isinstance(one, deque) and one.maxlen != other.maxlen:
        return False
    if isinstance(one, list | tuple | deque):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, set | frozenset):
        # The order within a set, and so its repr, depends on how it was made.
        return len(one) == len(other) and all(any(same(a, b) for b in other) for a in one)
    if isinstance(one, float):
        return repr(one) == repr(other)
    return one == other


def parsed(kind, content):
    """Return the document of class `kind` in these bytes."""
    return kind.from_bytes(content)


def document_at(path):
    """Return the fields of the document in a file, to be changed."""
    return json.loads(path.read_bytes())["document"]


def write_document(path, fields):
    """Write these fields, valid or not, as a document with a correct digest."""
    document = json.dumps(fields)
    digest = hashlib.sha256(document.encode()).hexdigest()
    path.write_text(f'{{"sha256":"{digest}","document":{document}}}')


def head_of(store, run=RUN):
    """Return the run's HEAD."""
    return parsed(Head, store.load(head_key(run))[0])


def assert_all_committed_verify(store, run=RUN):
    """Assert that HEAD's checkpoints are readable and equal what was captured at their steps."""
    for key in head_of(store, run).manifests():
        found = read_checkpoint(store, run, key)
        assert_is(found, found.manifest.position.step)


def files_under(folder):
    """Return the relative paths of all files, hidden and temporary ones included, but no lock."""
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != LOCK)
    return {p.relative_to(folder).as_posix() for p in files}


def assert_no_orphans(root, run=RUN):
    """Assert that the run consists of HEAD and the objects of the manifests that HEAD names."""
    store = LocalStore(root)
    head = head_of(store, run)
    shards = {
        shard.key
        for key in head.manifests()
        for shard in read_checkpoint(store, run, key).manifest.shards
    }
    named = {head_key(run), *head.manifests(), *shards}
    assert {f"{run}/{name}" for name in files_under(root / run)} == named
