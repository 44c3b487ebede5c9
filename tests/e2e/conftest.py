"""Uninterrupted runs, made once, with which interrupted ones are compared."""

from __future__ import annotations

import functools

import pytest

from tests.e2e.cases import PLAIN, finish, write
from tests.e2e.process import result, small


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory):
    """Return a function: the result of the small training with given arguments, uninterrupted."""

    @functools.cache
    def make(*args: str) -> dict:
        folder = tmp_path_factory.mktemp("uninterrupted")
        ended = small(folder, *args)
        assert ended.code == 0, ended.err
        return result(folder)

    return make


@pytest.fixture(scope="session")
def plain(tmp_path_factory) -> dict:
    """Return the result of the training that the scripts of cases.py contain, uninterrupted."""
    return finish(write(tmp_path_factory.mktemp("plain"), PLAIN))
