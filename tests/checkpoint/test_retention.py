"""What stays and what may be deleted, as arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.callbacks.checkpoint.manifest import manifest_key
from keepfit.callbacks.checkpoint.retention import KeepNewest, unreferenced
from tests.checkpoint.samples import RUN
from tests.checkpoint.test_manifest import manifest_with, shard

ATTEMPTS = st.integers(1, 4)
SHARDS = st.builds(shard, st.integers(0, 9), ATTEMPTS)
KEYS = st.builds(manifest_key, st.just(RUN), st.integers(0, 5), ATTEMPTS, st.integers(0, 2))
KEPT = st.dictionaries(
    KEYS, st.lists(SHARDS, max_size=4).map(lambda shards: manifest_with(shards=tuple(shards)))
)
OTHERS = st.sampled_from(
    ["run/HEAD.json", "run/artifacts/model-0001.keras", "run/artifacts/a/log-2", "run/notes.txt"]
)
LISTED = st.lists(KEYS | SHARDS.map(lambda s: s.key) | OTHERS, max_size=30)


def attempt_in(key):
    """As the key's format has it: the second number of a manifest, the only one of a shard."""
    return int(key.rsplit("/", 1)[1].split(".")[0].split("-")[1])


@given(keys=LISTED, kept=KEPT, attempt=ATTEMPTS)
def test_unused_is_safe(keys, kept, attempt):
    """Nothing that is kept or named by it, of a newer attempt, or of anybody else."""
    doomed = unreferenced(keys, kept, attempt)
    named = set(kept) | {s.key for manifest in kept.values() for s in manifest.shards}
    assert not named & set(doomed)
    assert set(doomed) <= set(keys)
    assert all(key.startswith(("run/checkpoints/", "run/shards/")) for key in doomed)
    assert all(attempt_in(key) <= attempt for key in doomed)


@given(keys=LISTED, kept=KEPT, attempt=ATTEMPTS)
def test_unused_is_complete(keys, kept, attempt):
    """Every manifest and shard that nobody needs, of this attempt or an older one, goes."""
    doomed = set(unreferenced(keys, kept, attempt))
    named = set(kept) | {s.key for manifest in kept.values() for s in manifest.shards}
    ours = {key for key in keys if key.startswith(("run/checkpoints/", "run/shards/"))}
    assert {key for key in ours - named if attempt_in(key) <= attempt} <= doomed


@given(keys=LISTED, kept=KEPT, attempt=ATTEMPTS)
def test_manifests_go_first(keys, kept, attempt):
    """No manifest is left whose shards are gone, wherever the deletion stops."""
    kinds = ["shards" in key for key in unreferenced(keys, kept, attempt)]
    assert kinds == sorted(kinds)


@given(keys=st.lists(KEYS, unique=True), count=st.integers(1, 5))
def test_keep_newest(keys, count):
    """The first ones stay, in order, and the newest always."""
    kept = list(KeepNewest(count).keep(keys))
    assert kept == keys[:count]
    assert len(kept) == min(count, len(keys))


@pytest.mark.parametrize("count", [0, -1])
def test_keep_at_least_one(count):
    """To keep none would be to lose the run."""
    with pytest.raises(ValueError, match=f"Received: keep={count}"):
        KeepNewest(count)
