"""Which paths of a store are those that the script names."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.callbacks.files.paths import (
    differ_only_in_numbers,
    fills_template,
    matches_template,
    resolve_first_path,
)

TEMPLATE = "ck/{epoch:02d}-{val_loss:.2f}.weights.h5"


@pytest.mark.parametrize(
    ("stored", "named", "same"),
    [
        ("logs/20260101-1200/log.csv", "logs/20261128-0930/log.csv", True),
        ("./log.csv", "log.csv", True),
        ("log.csv", "./log.csv", True),
        ("../log.csv", "../log.csv", True),
        ("a/../log.csv", "log.csv", False),
        ("link/../log.csv", "log.csv", False),
        ("../log.csv", "log.csv", False),
        ("/etc/log.csv", "etc/log.csv", False),
        ("logs/x/log.csv", "logs/1/log.csv", False),
    ],
)
def test_paths_that_differ_in_numbers(stored, named, same):
    """Numbers may differ, and `..` only stands where the script has it."""
    assert differ_only_in_numbers(stored, named) is same
    assert (resolve_first_path(named, stored) == stored) is same


@pytest.mark.parametrize(
    ("path", "matches"),
    [
        ("ck/03-0.25.weights.h5", True),
        ("ck/3-nan.weights.h5", True),
        ("ck/../03-0.25.weights.h5", False),
        ("ck/a/03-0.25.weights.h5", False),
        ("ck/../../etc/3-1.weights.h5", False),
        ("ck/..-1.weights.h5/../3-1.weights.h5", False),
        ("/ck/03-0.25.weights.h5", False),
    ],
)
def test_paths_of_a_template(path, matches):
    """A field is a part of a name: it contains no slash."""
    assert matches_template(TEMPLATE, path) is matches
    assert fills_template(TEMPLATE, path) is matches


@pytest.mark.parametrize("part", ["..", "."])
def test_a_folder_that_is_a_field(part):
    """A field that is a whole folder is no way to another one."""
    assert matches_template("ck/{epoch}/w.h5", "ck/7/w.h5")
    assert not matches_template("ck/{epoch}/w.h5", f"ck/{part}/w.h5")
    assert matches_template("../ck/{epoch}/w.h5", "../ck/7/w.h5")


@given(
    epoch=st.integers(0, 10**6),
    loss=st.floats(allow_nan=True, allow_infinity=True),
    folder=st.text(string.ascii_letters + "./ ", max_size=10),
)
def test_what_keras_makes_of_a_template_matches(epoch, loss, folder):
    """Each path that the script itself can have written is recognised."""
    template = f"{folder}{TEMPLATE}"
    assert matches_template(template, template.format(epoch=epoch, val_loss=loss))
