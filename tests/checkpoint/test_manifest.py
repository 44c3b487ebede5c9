"""The two documents of a run, manifest and HEAD, as bytes and back, and the keys of objects."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from keepfit.callbacks.checkpoint.format.fit_record import FitRecord
from keepfit.callbacks.checkpoint.format.head import AttemptHistory, Head, ScriptRecord
from keepfit.callbacks.checkpoint.format.keys import attempt_of, head_key, manifest_key, shard_key
from keepfit.callbacks.checkpoint.format.manifest import Manifest, StoredShard, StoredTensor
from keepfit.callbacks.checkpoint.format.position import Position
from tests.checkpoint.samples import RUN, parsed

DIGEST = "0123456789abcdef" * 4
NAMES = st.text(min_size=1, max_size=20)
COUNTS = st.integers(0, 10**9)


def manifest_with(**fields):
    """Return a manifest with these fields; the others have minimal valid values."""
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
    """A manifest that is read equals the one that was written."""
    manifest = manifest_with(**fields)
    assert parsed(Manifest, manifest.to_bytes()) == manifest


FITS = st.builds(
    FitRecord,
    name=st.none() | NAMES,
    site=NAMES,
    model=st.none() | st.just(DIGEST[:32]),
    unknown=st.lists(NAMES, max_size=2).map(tuple),
    iterations=st.none() | COUNTS,
)


@given(
    attempt=st.integers(1, 10**9),
    swaps=COUNTS,
    checkpoints=st.lists(st.builds(manifest_key, st.just(RUN), COUNTS, COUNTS, COUNTS)).map(tuple),
    finished=st.dictionaries(COUNTS, st.builds(manifest_key, st.just(RUN), COUNTS, COUNTS, COUNTS)),
    baseline=st.dictionaries(NAMES, COUNTS),
    script=st.none() | st.builds(ScriptRecord, arguments=st.lists(NAMES).map(tuple)),
    fits=st.dictionaries(COUNTS, FITS, max_size=3),
    continuations=st.dictionaries(COUNTS, NAMES, max_size=3),
)
def test_head_round_trip(**fields):
    """A HEAD that is read equals the one that was written, in the same order."""
    head = Head(run=RUN, writer="me", **fields)
    read = parsed(Head, head.to_bytes())
    assert read == head
    assert list(read.finished) == list(head.finished)
    assert read.manifests() == head.manifests()


POSITION_OF_0_1_0 = {
    **dict.fromkeys(("fit", "epoch", "batch", "calls", "step"), 0),
    **dict.fromkeys(("begun", "exhausted", "finished"), False),
}
MANIFEST_OF_0_1_0 = {
    "format": 1,
    "run": "run",
    "attempt": 1,
    "sequence": 0,
    "created": "2026-01-01T00:00:00.000+00:00",
    "versions": {},
    "position": POSITION_OF_0_1_0,
    "shards": [],
    "tensors": [],
    "state": {},
    "logs": [{"path": "log.csv", "parts": [], "whole": True}],
}
HEAD_OF_0_1_0 = {
    "format": 1,
    "run": "run",
    "attempt": 2,
    "writer": "me",
    "swaps": 3,
    "checkpoints": [],
    "finished": {},
    "origin": {"0:log.csv": 7},
    "past": {"ends": 1, "seconds": 2.0, "lived": 3.0, "parted": True},
}


def test_documents_of_the_first_version():
    """They are read, and written again byte for byte: fields are renamed in Python only."""
    contents = [
        json.dumps(document, separators=(",", ":")).encode()
        for document in (MANIFEST_OF_0_1_0, HEAD_OF_0_1_0)
    ]
    manifest = Manifest.model_validate_json(contents[0])
    head = Head.model_validate_json(contents[1])
    (file,) = manifest.files
    assert (file.path, file.whole) == ("log.csv", True)
    assert head.baseline == {"0:log.csv": 7}
    assert head.history == AttemptHistory(interruptions=1, seconds=2.0, lived=3.0, parted=True)
    assert contents[0] in manifest.to_bytes()
    assert contents[1] in head.to_bytes()


def test_manifests_are_named_once_newest_first():
    """A final checkpoint that is also among the newest ones is listed once."""
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
    """A document with fields of another format, or with impossible values, is no HEAD."""
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
    """A document with fields of another format, or with impossible values, is no manifest."""
    valid = manifest_with().model_dump(mode="json")
    Manifest.model_validate_json(json.dumps(valid))
    with pytest.raises(ValidationError):
        Manifest.model_validate_json(json.dumps({**valid, **change}))


def test_documents_are_frozen():
    """A document that was read can't be changed."""
    with pytest.raises(ValidationError):
        manifest_with().attempt = 2


def test_keys():
    """Keys have the documented form, and sort by step."""
    assert head_key("run") == "run/HEAD.json"
    assert manifest_key("run", 42, 3, 7) == "run/checkpoints/0000000042-0003-0007.json"
    assert shard_key("run", DIGEST, 3) == f"run/shards/{DIGEST}-0003.safetensors"
    assert manifest_key("run", 9, 1, 0) < manifest_key("run", 10, 1, 0)


@given(run=st.sampled_from(["run", "a-1", "a.b-2.c", "x=1+2"]), numbers=st.tuples(*[COUNTS] * 3))
def test_attempt_of_a_key(run, numbers):
    """The key of a manifest or a shard contains its attempt, whatever the run's name is."""
    step, attempt, sequence = numbers
    assert attempt_of(run, manifest_key(run, step, attempt, sequence)) == attempt
    assert attempt_of(run, shard_key(run, DIGEST, attempt)) == attempt


@example("x-².txt")
@given(st.text(max_size=30) | st.from_regex(r"[^/]*-[\d²]+\.[a-z]*", fullmatch=True))
@pytest.mark.parametrize("folder", ["run", "run/artifacts", "run/shards", "run/checkpoints"])
def test_attempt_of_other_keys(folder, name):
    """`attempt_of` takes any other key without an error."""
    attempt_of("run", f"{folder}/{name}")


@pytest.mark.parametrize(
    "key",
    [
        "run/HEAD.json",
        "run/artifacts/model-3.keras",
        "run/artifacts/x/1-2-3.json",
        "run/notes-1.txt",
    ],
)
def test_keys_without_an_attempt(key):
    """A key that is neither a manifest's nor a shard's belongs to no attempt."""
    assert attempt_of("run", key) is None
