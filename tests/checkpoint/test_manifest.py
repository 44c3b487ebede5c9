"""The two documents of a run, as bytes and back, and the names of objects."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from keepfit.callbacks.checkpoint.manifest import (
    Head,
    Manifest,
    StoredShard,
    StoredTensor,
    attempt_of,
    head_key,
    manifest_key,
    shard_key,
)
from keepfit.callbacks.checkpoint.snapshot import Position
from tests.checkpoint.samples import RUN, parsed

DIGEST = "0123456789abcdef" * 4
NAMES = st.text(min_size=1, max_size=20)
COUNTS = st.integers(0, 10**12)


def manifest_with(**fields):
    return Manifest(
        **{
            "run": RUN,
            "attempt": 1,
            "sequence": 0,
            "created": "2026-01-01T00:00:00.000+00:00",
            "versions": {},
            "position": Position(),
            "shards": (),
            "tensors": (),
            "state": {},
            **fields,
        }
    )


def shard(index=0, attempt=1):
    digest = f"{index:064x}"
    return StoredShard(key=shard_key(RUN, digest, attempt), digest=digest, size=index + 1)


SHARDS = st.builds(shard, COUNTS, st.integers(1, 99999))
TENSORS = st.builds(
    StoredTensor,
    name=NAMES,
    dtype=st.sampled_from(["F32", "BF16"]),
    shape=st.lists(COUNTS, max_size=4).map(tuple),
    shard=COUNTS,
    offset=COUNTS,
    size=COUNTS,
)
POSITIONS = st.builds(
    Position,
    fit=COUNTS,
    epoch=COUNTS,
    batch=COUNTS,
    calls=COUNTS,
    step=COUNTS,
    begun=st.booleans(),
    exhausted=st.booleans(),
    finished=st.booleans(),
)


@given(
    sequence=COUNTS,
    attempt=st.integers(1, 10**9),
    versions=st.dictionaries(NAMES, NAMES, max_size=3),
    position=POSITIONS,
    shards=st.lists(SHARDS, max_size=3).map(tuple),
    tensors=st.lists(TENSORS, max_size=3).map(tuple),
    state=st.dictionaries(NAMES, st.floats(allow_nan=False, allow_infinity=False) | NAMES),
)
def test_manifest_round_trip(**fields):
    """A manifest that is read is the one that was written."""
    manifest = manifest_with(**fields)
    assert parsed(Manifest, manifest.to_bytes()) == manifest


@given(
    attempt=st.integers(1, 10**9),
    swaps=COUNTS,
    checkpoints=st.lists(st.builds(manifest_key, st.just(RUN), COUNTS, COUNTS, COUNTS)).map(tuple),
    finished=st.dictionaries(COUNTS, st.builds(manifest_key, st.just(RUN), COUNTS, COUNTS, COUNTS)),
    origin=st.dictionaries(NAMES, COUNTS),
)
def test_head_round_trip(**fields):
    """A HEAD that is read is the one that was written, in the same order."""
    head = Head(run=RUN, writer="me", **fields)
    read = parsed(Head, head.to_bytes())
    assert read == head
    assert list(read.finished) == list(head.finished)
    assert read.manifests() == head.manifests()


def test_manifests_are_named_once_newest_first():
    """A final checkpoint that is also among the newest is one manifest."""
    head = Head(
        run=RUN,
        attempt=1,
        writer="me",
        swaps=1,
        checkpoints=("c4", "c3"),
        finished={0: "c1", 1: "c3"},
    )
    assert head.manifests() == ("c4", "c3", "c1")


VALID_HEAD = {"format": 1, "run": RUN, "attempt": 1, "writer": "me", "swaps": 0}


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"unknown": 1},
        {"attempt": 0},
        {"attempt": -1},
        {"swaps": -1},
        {"run": ""},
        {"writer": None},
        {"checkpoints": [""]},
        {"checkpoints": "x"},
        {"finished": {"-1": "x"}},
        {"finished": {"x": "x"}},
        {"origin": {"log": -1}},
    ],
    ids=str,
)
def test_other_heads_are_refused(change):
    """Fields of another format, or with impossible values, are no HEAD."""
    Head.model_validate_json(json.dumps(VALID_HEAD))
    with pytest.raises(ValidationError):
        Head.model_validate_json(json.dumps({**VALID_HEAD, **change}))


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"unknown": 1},
        {"attempt": 0},
        {"position": {"step": -1}},
        {"position": {"unknown": 1}},
        {"shards": [{"key": "x", "digest": "x", "size": 1}]},
        {"shards": [{"key": "x", "digest": DIGEST, "size": 0}]},
        {"shards": [{"key": "", "digest": DIGEST, "size": 1}]},
        {"tensors": [{"name": "x"}]},
        {"state": []},
    ],
    ids=str,
)
def test_other_manifests_are_refused(change):
    """Fields of another format, or with impossible values, are no manifest."""
    valid = manifest_with().model_dump(mode="json")
    Manifest.model_validate_json(json.dumps(valid))
    with pytest.raises(ValidationError):
        Manifest.model_validate_json(json.dumps({**valid, **change}))


def test_documents_are_frozen():
    """Nothing changes a document that was read."""
    with pytest.raises(ValidationError):
        manifest_with().attempt = 2


def test_keys():
    """The names of objects are as the design gives them, and sort by step."""
    assert head_key("run") == "run/HEAD.json"
    assert manifest_key("run", 42, 3, 7) == "run/checkpoints/0000000042-0003-0007.json"
    assert shard_key("run", DIGEST, 3) == f"run/shards/{DIGEST}-0003.safetensors"
    assert manifest_key("run", 9, 1, 0) < manifest_key("run", 10, 1, 0)


@given(run=st.sampled_from(["run", "a-1", "a.b-2.c", "x=1+2"]), numbers=st.tuples(*[COUNTS] * 3))
def test_attempt_of_a_key(run, numbers):
    """A manifest's and a shard's name tell who wrote it, whatever the run is called."""
    step, attempt, sequence = numbers
    assert attempt_of(manifest_key(run, step, attempt, sequence)) == attempt
    assert attempt_of(shard_key(run, DIGEST, attempt)) == attempt


@example("x-².txt")
@given(st.text(max_size=30) | st.from_regex(r"[^/]*-[\d²]+\.[a-z]*", fullmatch=True))
@pytest.mark.parametrize("folder", ["run", "run/artifacts", "run/shards", "run/checkpoints"])
def test_attempt_of_other_keys(folder, name):
    """No other name is mistaken for one of ours, and none is too odd to look at."""
    attempt_of(f"{folder}/{name}")


@pytest.mark.parametrize(
    "key",
    [
        "run/HEAD.json",
        "run/artifacts/model-3.keras",
        "run/artifacts/x/1-2-3.json",
        "run/notes-1.txt",
    ],
)
def test_keys_of_nobody(key):
    """What is neither a manifest nor a shard was written by no attempt."""
    assert attempt_of(key) is None
