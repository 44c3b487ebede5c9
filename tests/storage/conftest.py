"""The stores that the contract is tested on: each a factory, by the name that pytest shows."""

import os
import uuid

import pytest

from callbacks.storage import open_store
from callbacks.storage.local import LocalStore

FACTORIES = {"local": lambda folder: LocalStore(folder / "store")}
if URI := os.environ.get("KEEPFIT_TEST_STORE"):
    FACTORIES[URI] = lambda _: open_store(f"{URI.rstrip('/')}/{uuid.uuid4().hex}")


@pytest.fixture(params=sorted(FACTORIES))
def store(request, tmp_path):
    """An empty store; every test of the contract runs on each kind."""
    return FACTORIES[request.param](tmp_path)
