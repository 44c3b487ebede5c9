"""Objects that are truncated, flipped, missing, foreign or garbage are reported and never used."""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.format.keys import head_key
from keepfit.callbacks.checkpoint.format.manifest import Manifest
from keepfit.callbacks.checkpoint.format.shards import digest
from keepfit.callbacks.checkpoint.read.documents import NoUsableCheckpoint, read_manifest
from keepfit.callbacks.checkpoint.read.reader import read_checkpoint, read_newest_usable
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.storage.base import Damaged, NotFound
from keepfit.callbacks.storage.local import LocalStore
from tests.checkpoint.samples import (
    MEMORY,
    RUN,
    assert_all_committed_verify,
    assert_is,
    assert_no_orphans,
    document_at,
    head_of,
    resume,
    snapshot,
    take_over,
    trained,
    write_document,
)
from tests.checkpoint.stores import Wrapped


@pytest.fixture(scope="module")
def intact(module_folder):
    """Return the store of a run with checkpoints at steps 1, 2 and 3, to be copied."""
    root = module_folder / "intact"
    trained(LocalStore(root), 1, 2, 3, keep=3)
    return root


@pytest.fixture
def root(intact, tmp_path):
    """Return a copy of that store, to be damaged."""
    return shutil.copytree(intact, tmp_path / "store")


class copied:  # noqa: N801
    """A copy of a store for one example of hypothesis."""

    def __init__(self, intact):
        self._intact = intact
        self._folder = TemporaryDirectory(dir=MEMORY)

    def __enter__(self):
        return LocalStore(shutil.copytree(self._intact, Path(self._folder.name) / "store"))

    def __exit__(self, *_):
        self._folder.cleanup()


def newest(store, index=0):
    """Return the key of the newest manifest, or of an older one, and the manifest."""
    key = head_of(store).checkpoints[index]
    return key, read_manifest(store, RUN, key)


def shards_of(store, index=0):
    """Return the keys of the shards of the newest checkpoint, or of an older one."""
    return {shard.key for shard in newest(store, index)[1].shards}


def own_shard(store, index=0):
    """Return the key of a shard that is not shared with the checkpoint before."""
    return min(shards_of(store, index) - shards_of(store, index + 1))


def shared_shard(store):
    """Return the key of the shard that all three checkpoints share."""
    (key,) = shards_of(store) & shards_of(store, 1) & shards_of(store, 2)
    return key


def path_of(store, key):
    """Return the path of an object in a local store."""
    return store._root / key


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def halve(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def empty(path):
    path.write_bytes(b"")


def extend(path):
    path.write_bytes(path.read_bytes() + b"\n{}")


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def remove(path):
    path.unlink()


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def foreign_shard(path):
    """Replace the shard with one of another run, of the same size."""
    with TemporaryDirectory() as folder:
        other = LocalStore(Path(folder))
        take_over(other, run="abc").commit(snapshot(10))
        (same,) = [p for p in Path(folder).rglob("*.safetensors") if size_of(p) == size_of(path)]
        shutil.copy(same, path)


def size_of(path):
    return path.stat().st_size


def foreign_manifest(path):
    """Replace the manifest with a valid one of another run."""
    write_document(path, {**document_at(path), "run": "other"})


def assert_falls_back(store, cause, step=2, name=None):
    """Assert that the next attempt uses the checkpoint before, says why, and drops the bad one."""
    rejected = head_of(store).checkpoints[0]
    attempt = take_over(store, keep=3)
    with capture_logs() as logs:
        found = resume(store, attempt)
    assert_is(found, step)
    (entry,) = [log for log in logs if log["event"] == events.CHECKPOINT_REJECTED]
    assert entry["log_level"] == "error"
    assert entry["checkpoint"] == rejected
    assert f"{store.uri}/{name or rejected}" in entry["reason"]
    assert cause in entry["reason"]
    assert "\n" not in entry["reason"]
    attempt.commit(snapshot(9))
    attempt.sweep()
    assert rejected not in head_of(store).manifests()
    assert_all_committed_verify(store)
    assert_no_orphans(store._root)


def name_of(value):
    return getattr(value, "__name__", "")


SHARD_DAMAGE = [
    (truncate, "bytes instead of"),
    (halve, "bytes instead of"),
    (empty, "has 0 bytes instead of"),
    (extend, "bytes instead of"),
    (zero, "has SHA-256"),
    (remove, "does not exist"),
    (foreign_shard, "has SHA-256"),
]


@pytest.mark.parametrize(("damage", "cause"), SHARD_DAMAGE, ids=name_of)
def test_damaged_shard(root, damage, cause):
    """The checkpoint before is used, and the log names the shard and what is wrong with it."""
    store = LocalStore(root)
    key = own_shard(store)
    damage(path_of(store, key))
    assert_falls_back(store, cause, name=key)


MANIFEST_DAMAGE = [
    (truncate, "is not a valid manifest"),
    (halve, "is not a valid manifest"),
    (empty, "is not a valid manifest"),
    (extend, "is not a valid manifest"),
    (zero, "is not a valid manifest"),
    (remove, "does not exist"),
    (foreign_manifest, "belongs to run 'other', not 'run'"),
]


@pytest.mark.parametrize(("damage", "cause"), MANIFEST_DAMAGE, ids=name_of)
def test_damaged_manifest(root, damage, cause):
    """The checkpoint before is used, and the log names the manifest and what is wrong with it."""
    store = LocalStore(root)
    damage(path_of(store, newest(store)[0]))
    assert_falls_back(store, cause)


@given(data=st.data())
def test_flipped_bit_in_a_shard(intact, data):
    """The digest detects any flipped bit."""
    with copied(intact) as store:
        key = own_shard(store)
        path = path_of(store, key)
        flip(path, data.draw(st.integers(0, path.stat().st_size * 8 - 1), label="bit"))
        found = {}
        with capture_logs() as logs:
            found = resume(store, take_over(store))
        assert_is(found, 2)
        (entry,) = [log for log in logs if log["event"] == events.CHECKPOINT_REJECTED]
        assert key in entry["reason"]
        assert "SHA-256" in entry["reason"]


@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_flipped_bit_in_a_manifest(intact, position, bit):
    """Nothing is resumed that was not captured: the state is protected as well as the weights."""
    with copied(intact) as store:
        key = newest(store)[0]
        path = path_of(store, key)
        flip(path, int(position * path.stat().st_size) * 8 + bit)
        found = resume(store, take_over(store))
        assert_is(found, found.manifest.position.step)
        assert found.manifest.position.step == (3 if found.key == key else 2)


@pytest.mark.parametrize("text", ['"step":3', '"epoch":0', '"history":[3', '"sequence":2'])
def test_flipped_digit_in_a_manifest(root, text):
    """A manifest in which one digit was changed is not used."""
    store = LocalStore(root)
    path = path_of(store, newest(store)[0])
    content = path.read_text()
    assert content.count(text) == 1
    digit = text[-1]
    path.write_text(content.replace(text, text[:-1] + chr(ord(digit) ^ 1)))
    with capture_logs() as logs:
        found = resume(store, take_over(store))
    assert_is(found, 2)
    assert [log["event"] for log in logs] == [events.CHECKPOINT_REJECTED]


def test_damaged_shared_shard(root):
    """If all checkpoints share a damaged shard, none is used, and one clear message says so."""
    store = LocalStore(root)
    key = shared_shard(store)
    flip(path_of(store, key), 1234567)
    attempt = take_over(store)
    with capture_logs() as logs, pytest.raises(NoUsableCheckpoint) as caught:
        resume(store, attempt)
    assert_says_what_to_do(caught.value, store)
    assert [log["event"] for log in logs] == [events.CHECKPOINT_REJECTED] * 3
    assert [log["checkpoint"] for log in logs] == list(attempt.head.checkpoints)
    assert all(key in log["reason"] for log in logs)


def assert_says_what_to_do(error, store):
    """Assert that the message is one line that names the run, the store and the way out."""
    message = str(error)
    assert "'run'" in message
    assert store.uri in message
    assert "--fresh" in message
    assert "\n" not in message


@pytest.mark.parametrize("damage", [truncate, remove, foreign_manifest])
def test_two_damaged_checkpoints(root, damage):
    """Each rejected checkpoint is logged, and the one before them is used."""
    store = LocalStore(root)
    for index in (0, 1):
        damage(path_of(store, head_of(store).checkpoints[index]))
    attempt = take_over(store)
    with capture_logs() as logs:
        assert_is(resume(store, attempt), 1)
    assert [log["checkpoint"] for log in logs] == list(attempt.head.checkpoints[:2])


@pytest.mark.parametrize("damage", [truncate, remove, zero])
def test_all_manifests_damaged(root, damage):
    """If every manifest is unusable, training does not silently start from zero."""
    store = LocalStore(root)
    for key in head_of(store).checkpoints:
        damage(path_of(store, key))
    attempt = take_over(store)
    with pytest.raises(NoUsableCheckpoint) as caught:
        resume(store, attempt)
    assert_says_what_to_do(caught.value, store)


def foreign_head(path):
    write_document(path, {**document_at(path), "run": "other"})


def text_head(path):
    path.write_text("{}")


def newer_head(path):
    write_document(path, {**document_at(path), "format": 2})


HEAD_DAMAGE = [empty, truncate, extend, zero, remove, foreign_head, text_head, newer_head]


@pytest.mark.parametrize("damage", HEAD_DAMAGE)
def test_damaged_head(root, damage):
    """HEAD is rebuilt from the manifests: the newest checkpoint is used, and the log says so."""
    store = LocalStore(root)
    old = head_of(store)
    damage(path_of(store, head_key(RUN)))
    with capture_logs() as logs:
        attempt = take_over(store, keep=3)
    (entry,) = logs
    assert entry == {
        "event": events.HEAD_DAMAGED,
        "log_level": "error",
        "reason": f"{store.uri}/run/HEAD.json is {'missing' if damage is remove else 'damaged'}",
        "using": old.checkpoints[0],
    }
    assert attempt.number == 2
    assert attempt.head.checkpoints == old.checkpoints
    assert_is(resume(store, attempt), 3)
    attempt.commit(snapshot(4))
    attempt.sweep()
    assert_all_committed_verify(store)
    assert_no_orphans(root)


@pytest.mark.parametrize("damage", HEAD_DAMAGE)
def test_damaged_head_and_newest_manifest(root, damage):
    """Both are reported, and the checkpoint before is used."""
    store = LocalStore(root)
    key, old = newest(store)[0], head_of(store)
    damage(path_of(store, head_key(RUN)))
    truncate(path_of(store, key))
    with capture_logs() as logs:
        attempt = take_over(store)
        assert_is(resume(store, attempt), 2)
    assert [log["event"] for log in logs] == [events.CHECKPOINT_REJECTED, events.HEAD_DAMAGED]
    assert logs[0]["checkpoint"] == key
    assert logs[1]["using"] == old.checkpoints[1]


@pytest.mark.parametrize("damage", HEAD_DAMAGE)
@pytest.mark.parametrize("left", ["manifests", "shards", "damaged manifests"])
def test_damaged_head_and_no_usable_manifest(root, damage, left):
    """If other objects of the run remain, training does not silently start from zero."""
    store = LocalStore(root)
    for key in head_of(store).checkpoints:
        (truncate if left == "damaged manifests" else remove)(path_of(store, key))
    damage(path_of(store, head_key(RUN)))
    if left == "manifests":
        shutil.rmtree(root / RUN / "shards")
        (root / RUN / "checkpoints" / "0000000001-0001-0000.json").write_bytes(b"{}")
    before = list(store.list(""))
    with pytest.raises(NoUsableCheckpoint) as caught:
        take_over(store)
    assert_says_what_to_do(caught.value, store)
    assert f"HEAD.json is {'missing' if damage is remove else 'damaged'}" in str(caught.value)
    assert list(store.list("")) == before, "nothing was changed"


def test_damaged_head_before_the_first_checkpoint(store):
    """A damaged HEAD is no new run, even if the run has no other object."""
    take_over(store)
    empty(path_of(store, head_key(RUN)))
    with pytest.raises(NoUsableCheckpoint):
        take_over(store)


def test_head_is_recovered_in_the_order_of_attempts(store):
    """A newer attempt that went back to an earlier step still counts as newer."""
    trained(store, 1, 5)
    again = take_over(store)
    again.resume_from(*newest(store, 1))
    again.commit(snapshot(3))
    remove(path_of(store, head_key(RUN)))
    assert_is(resume(store, take_over(store)), 3)


def test_head_is_recovered_with_its_finished_fits(store):
    """The final checkpoint of each fit is found again, even if a later fit is in progress."""
    attempt = take_over(store, keep=1)
    attempt.commit(snapshot(1))
    attempt.commit(snapshot(1, finished=True))
    attempt.commit(snapshot(2, fit=1))
    attempt.commit(snapshot(3, fit=1, finished=True))
    attempt.commit(snapshot(4, fit=2))
    finished = head_of(store).finished
    empty(path_of(store, head_key(RUN)))
    recovered = take_over(store, keep=1)
    assert recovered.head.finished == finished
    assert list(recovered.head.finished) == [0, 1]
    recovered.commit(snapshot(5, fit=2))
    recovered.sweep()
    assert_all_committed_verify(store)
    assert_no_orphans(store._root)


def test_head_is_recovered_without_reusing_an_attempt(store):
    """The number of an attempt that has only sent shards is not used again, nor are its names."""
    trained(store, 1)
    lost = take_over(RefusingManifests(store))
    assert lost.number == 2
    with pytest.raises(NotFound):
        lost.commit(snapshot(2))
    remove(path_of(store, head_key(RUN)))
    assert take_over(store).number == 3


class RefusingManifests(Wrapped):
    """A store to which manifests can't be written."""

    def put(self, key, body, *, digest=None):
        if key.endswith(".json"):
            raise NotFound("no network")
        super().put(key, body, digest=digest)


def test_head_is_recovered_from_a_manifest_under_another_name(store):
    """A manifest that a user has renamed is used, or refused in one clear line."""
    trained(store, 1)
    key = newest(store)[0]
    path = path_of(store, key)
    path.rename(path.with_name("copy.json"))
    remove(path_of(store, head_key(RUN)))
    try:
        assert_is(resume(store, take_over(store)), 1)
    except NoUsableCheckpoint as error:
        assert_says_what_to_do(error, store)


def test_fit_without_checkpoints(store):
    """A fit without checkpoints starts from zero, even if earlier fits have checkpoints."""
    attempt = trained(store, 1)
    assert read_newest_usable(store, RUN, attempt.head.checkpoints, fit=1) is None
    assert read_newest_usable(store, RUN, (), fit=0) is None


def test_checkpoints_of_later_fits_are_ignored(store):
    """An earlier fit resumes from its own newest checkpoint."""
    attempt = take_over(store, keep=4)
    for step, fit in ((1, 0), (2, 0), (3, 1)):
        attempt.commit(snapshot(step, fit=fit))
    assert_is(read_newest_usable(store, RUN, attempt.head.checkpoints, fit=0), 2)


def test_damage_in_an_older_checkpoint(root):
    """A damaged shard in an older checkpoint does not cause the newest to be rejected."""
    store = LocalStore(root)
    zero(path_of(store, own_shard(store, 1)))
    with capture_logs() as logs:
        assert_is(resume(store, take_over(store)), 3)
    assert logs == []


def test_rejected_checkpoint_is_not_trusted(root):
    """A shard of a checkpoint that failed verification is sent again, whatever its digest."""
    store = LocalStore(root)
    attempt = take_over(store, keep=3)
    zero(path_of(store, shared_shard(store)))
    with pytest.raises(NoUsableCheckpoint):
        resume(store, attempt)
    attempt.commit(snapshot(4))
    assert_is(read_newest_usable(store, RUN, attempt.head.checkpoints, fit=0), 4)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2**60, 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["$array", "state/best", "model/kernel", "run", "../x", "/etc", "\0", "F32"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["$array", "$scalar", "$bytes", "$float", "$tuple", "$set", "$dict", "$other"]
            ),
            inner,
            min_size=1,
            max_size=1,
        )
    ),
    max_leaves=6,
)


def places(value, path=()):
    """Yield the path of every value within a JSON document."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def replaced(document, path, value):
    """Return a copy of the document with another value at this path."""
    if not path:
        return value
    copy = json.loads(json.dumps(document))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copy


@given(data=st.data())
@example(data=None)
def test_manifest_of_random_json(intact, data):
    """A manifest with any value in any of its fields is either used or Damaged, never a crash."""
    with copied(intact) as store:
        key = newest(store)[0]
        document = document_at(path_of(store, key))
        if data is None:
            changed = {**document, "state": {"x": {"$float": "no number"}}}
        else:
            path = data.draw(st.sampled_from(sorted(places(document), key=repr)), label="place")
            changed = replaced(document, path, data.draw(JSON, label="value"))
        assert_used_or_damaged(store, key, changed)


@pytest.mark.parametrize(
    "state",
    [
        {"$array": []},
        {"$array": "no such name"},
        {"$scalar": {}},
        {"$bytes": None},
        {"$float": "no number"},
        {"$float": []},
        {"$tuple": 5},
        {"$set": [[]]},
        {"$set": None},
        {"$dict": [1]},
        {"$dict": [[[], 1]]},
        {"$dict": 1},
    ],
    ids=lambda change: str(change)[:40],
)
def test_state_that_encode_never_produces(intact, state):
    """A tree that `encode` never produces is Damaged, with the manifest's name."""
    with copied(intact) as store:
        key = newest(store)[0]
        document = document_at(path_of(store, key))
        assert_used_or_damaged(store, key, {**document, "state": {"x": state}})


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [10**30, 0], "size": 0},
        {"shape": [1] * 100},
        {"shape": [-1]},
        {"size": 10**30},
        {"offset": 10**30},
        {"shard": 10**30},
        {"dtype": "F128"},
        {"dtype": "object"},
    ],
    ids=lambda change: str(change)[:40],
)
def test_impossible_tensor(intact, change):
    """An entry that contradicts its shard, or that no array can have, is Damaged."""
    with copied(intact) as store:
        key = newest(store)[0]
        document = document_at(path_of(store, key))
        tensors = document["tensors"]
        (index,) = [i for i, t in enumerate(tensors) if t["name"] == "optimizer/count"]
        tensors[index] |= change
        assert_used_or_damaged(store, key, document)


@pytest.mark.parametrize(
    "change",
    [
        {"size": 2**40},
        {"size": 2**62},
        {"size": 2**63},
        {"size": 10**30},
        {"key": "run"},
        {"key": "run/shards"},
        {"key": "."},
        {"key": "\0"},
        {"key": "x" * 1000},
        {"key": "/etc/hostname"},
    ],
    ids=lambda change: str(change)[:40],
)
def test_impossible_shard(intact, change):
    """An impossible size or key is Damaged, not a MemoryError and not an error of the store."""
    with copied(intact) as store:
        key = newest(store)[0]
        document = document_at(path_of(store, key))
        document["shards"][-1] |= change
        assert_used_or_damaged(store, key, document)


def assert_used_or_damaged(store, key, document):
    """Write a manifest and assert that its checkpoint is either read or reported in one line."""
    write_document(path_of(store, key), document)
    try:
        read_checkpoint(store, RUN, key)
    except (Damaged, NotFound) as error:
        message = str(error)
    else:
        return
    assert "\n" not in message
    assert store.uri in message


def test_pruning_stays_inside_the_run(store):
    """A manifest that names another run's shard is Damaged, and that shard is never deleted."""
    trained(store, 1)
    other = take_over(store, keep=1, run="other")
    other.commit(snapshot(7))
    key = newest(store)[0]
    document = document_at(path_of(store, key))
    document["shards"] = [s.model_dump() for s in other.commit(snapshot(8)).manifest.shards]
    write_document(path_of(store, key), document)
    with pytest.raises(Damaged):
        read_checkpoint(store, RUN, key)
    attempt = take_over(store, keep=1)
    attempt.commit(snapshot(2))
    attempt.sweep()
    assert_all_committed_verify(store, "other")


def test_digest_is_over_the_whole_object(root):
    """The digest in a manifest is the SHA-256 of the object, as `sha256sum` prints it."""
    store = LocalStore(root)
    manifest = newest(store)[1]
    assert isinstance(manifest, Manifest)
    for shard in manifest.shards:
        assert digest([path_of(store, shard.key).read_bytes()]) == shard.digest
