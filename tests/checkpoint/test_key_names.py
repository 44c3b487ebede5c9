"""Names within keys: of any length and script, distinct, and as they are where they are short."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keepfit.callbacks.checkpoint.format.key_names import (
    MAX_COMPONENT_BYTES,
    key_component,
    key_from_path,
    keys_from_paths,
    shorten,
)
from keepfit.callbacks.checkpoint.format.keys import artifact_key, attempt_of, part_key, report_key

LONGEST_RUN = "r" * 128
COMPONENTS = st.text("ab/.%!~ é训😀", max_size=6) | st.builds(
    lambda text, times, end: text * times + end,
    st.text("ab%!~é训😀", min_size=1, max_size=3),
    st.integers(1, 120),
    st.text("ab", max_size=1),
)
PATHS = st.lists(COMPONENTS, min_size=1, max_size=12).map("/".join)


def assert_storable(key):
    """Assert that S3 and a file system take the key, with room for a prefix and a temporary."""
    assert len(key.encode()) <= 1024 - 300
    for part in key.split("/"):
        assert len(part.encode()) <= MAX_COMPONENT_BYTES
        assert part not in ("", ".", "..")
        assert re.fullmatch(r"[A-Za-z0-9._~%!()+=@ -]+", part)


@given(st.lists(PATHS.filter(lambda path: path.strip("./")), min_size=1, max_size=8, unique=True))
@example(["/a", "a", "./a", "a/", "/a!b"])
@example(["训" * 90, "/" + "训" * 90, "训" * 89 + "练"])
@example(["a" * 5000, "b/" * 2000 + "a", "b/" * 2000 + "c"])
def test_keys_of_paths(paths):
    """Every key can be stored, and distinct paths have distinct keys."""
    keys = keys_from_paths(paths)
    assert list(keys) == paths
    assert len(set(keys.values())) == len(paths)
    for name in keys.values():
        assert_storable(artifact_key(LONGEST_RUN, name))
        assert attempt_of("run", part_key("run", name, 10**12, 10**4, 7)) == 10**4


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("log.csv", "log.csv"),
        ("./logs/a b(1)+=@.csv", "logs/a b(1)+=@.csv"),
        ("/tmp/x/log.csv", "tmp/x/log.csv"),
        ("../up.csv", "%2E%2E/up.csv"),
        ("a!b~c.csv", "a%21b~c.csv"),
        ("é.csv", "%C3%A9.csv"),
        ("a" * 180, "a" * 180),
        ("训" * 20, "%E8%AE%AD" * 20),
    ],
)
def test_short_paths_are_used_as_they_are(path, key):
    """Keys of 0.1.0 stay what they are."""
    assert keys_from_paths([path]) == {path: key_from_path(path)} == {path: key}


def test_a_shortened_component_shows_its_start():
    """People can still tell which file it is; no escape is cut in half."""
    key = key_from_path("训" * 30 + ".csv")
    assert re.fullmatch(r"(%[0-9A-F]{2})+![0-9a-f]{32}", key)
    assert len(key) <= MAX_COMPONENT_BYTES


@given(st.lists(st.text(max_size=3) | COMPONENTS, unique=True, min_size=2, max_size=5))
@example(["\ud800", "\udc80", "é"])
@example(["http://host/" + "a" * 300, "http://host/" + "a" * 301])
def test_keys_of_reports(names):
    """A report has one key of one component, whatever its name is."""
    keys = [report_key(LONGEST_RUN, name) for name in names if name]
    assert len(set(keys)) == len(keys)
    for name in filter(None, names):
        assert "/" not in key_component(name)
        assert len(key_component(name)) <= MAX_COMPONENT_BYTES


@given(st.lists(COMPONENTS, min_size=2, max_size=5, unique=True), st.integers(80, 200))
def test_shortened_texts(texts, limit):
    """They have at most so many bytes and stay distinct; short ones stay as they are."""
    short = [shorten(text, limit) for text in texts]
    assert all(len(text.encode()) <= limit for text in short)
    assert len(set(short)) == len(texts)
    assert all(len(t.encode()) > limit for t, s in zip(texts, short, strict=True) if s != t)
