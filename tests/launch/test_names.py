"""Run names that follow from the names of scripts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.callbacks.launch.names import MAX_LENGTH, is_valid, run_name_of, valid_name

STEMS = st.one_of(st.text(), st.from_regex(r"[._=+-]?[a-zß ]{0,3}[a-zöü/.-]{0,4}", fullmatch=True))
"""Any texts, and similar short ones, which collide if their difference is lost."""


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("train.py", "train"),
        ("/home/me/train.py", "train"),
        ("train.v2.py", "train.v2"),
        ("train", "train"),
        ("lr=1e-3.py", "lr=1e-3"),
        ("x" * 128 + ".py", "x" * 128),
    ],
)
def test_a_valid_stem_is_the_name(script, name):
    """The name is the script's, without folder and suffix."""
    assert run_name_of(script) == name


@pytest.mark.parametrize(
    ("script", "readable"),
    [
        ("./my model.py", "my-model"),
        ("größe.py", "gr--e"),
        ("_private.py", "private"),
        (".hidden.py", "hidden"),
        ("___.py", "run"),
        ("", "run"),
        ("x" * 129 + ".py", "x" * 119),
    ],
)
def test_another_stem_is_replaced(script, readable):
    """Characters are replaced, the length is limited, and a digest of the stem is appended."""
    name, _, digest = run_name_of(script).rpartition("-")
    assert name == readable
    assert len(digest) == 8
    assert is_valid(run_name_of(script))


def test_similar_scripts_have_two_names():
    """The characters that are replaced distinguish them."""
    assert run_name_of("größe.py") != run_name_of("grüße.py")


@given(st.lists(STEMS, unique=True, max_size=20))
def test_different_stems_never_give_one_name(stems):
    """The function is injective, up to a collision of two digests."""
    assert len({valid_name(stem) for stem in stems}) == len(stems)


@given(STEMS | st.text(min_size=MAX_LENGTH - 20, max_size=2 * MAX_LENGTH))
def test_every_name_is_valid(stem):
    """A run may have the name, and a valid stem is left as it is."""
    name = valid_name(stem)
    assert is_valid(name)
    assert len(name) <= MAX_LENGTH
    assert (name == stem) == is_valid(stem)
