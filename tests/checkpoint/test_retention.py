"""Retention: which objects stay and which may be deleted, computed without a store."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.callbacks.checkpoint.format.keys import manifest_key
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
    """Return the attempt in a key: the second number of a manifest's, the only one of a shard's."""
    return int(key.rsplit("/", 1)[1].split(".")[0].split("-")[1])


@given(keys=LISTED, kept=KEPT, attempt=ATTEMPTS)
def test_unreferenced_is_safe(keys, kept, attempt):
    """No object is deleted that is kept or needed, of a newer attempt, or not keepfit's."""
    deleted = unreferenced(RUN, keys, kept, attempt)
    named = set(kept) | {s.key for manifest in kept.values() for s in manifest.shards}
    assert not named & set(deleted)
    assert set(deleted) <= set(keys)
    assert all(key.startswith(("run/checkpoints/", "run/shards/")) for key in deleted)
    assert all(attempt_in(key) <= attempt for key in deleted)


@given(keys=LISTED, kept=KEPT, attempt=ATTEMPTS)
def test_unreferenced_is_complete(keys, kept, attempt):
    """Every unneeded manifest and shard of this attempt or an older one is deleted."""
    deleted = set(unreferenced(RUN, keys, kept, attempt))
    named = set(kept) | {s.key for manifest in kept.values() for s in manifest.shards}
    ours = {key for key in keys if key.startswith(("run/checkpoints/", "run/shards/"))}
    assert {key for key in ours - named if attempt_in(key) <= attempt} <= deleted


@given(keys=LISTED, kept=KEPT, attempt=ATTEMPTS)
def test_manifests_go_first(keys, kept, attempt):
    """Wherever the deletion stops, no manifest is left whose shards are deleted."""
    kinds = ["shards" in key for key in unreferenced(RUN, keys, kept, attempt)]
    assert kinds == sorted(kinds)


@given(keys=st.lists(KEYS, unique=True), count=st.integers(1, 5))
def test_keep_newest(keys, count):
    """The first keys are kept, in order, and the newest always is."""
    kept = list(KeepNewest(count).keep(keys))
    assert kept == keys[:count]
    assert len(kept) == min(count, len(keys))


@pytest.mark.parametrize("count", [0, -1])
def test_keep_at_least_one(count):
    """Keeping no checkpoint would lose the run, so it is refused."""
    with pytest.raises(ValueError, match=f"Received: keep={count}"):
        KeepNewest(count)
