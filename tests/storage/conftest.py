"""The stores that the contract is tested on: each a factory, by the name that pytest shows.

KEEPFIT_TEST_STORE names one in S3 to be used in place of the server that scripts/test starts.
"""

import os
import uuid

import pytest

from keepfit.callbacks.storage import open_store
from keepfit.callbacks.storage.local import LocalStore

URI = os.environ.get("KEEPFIT_TEST_STORE")


@pytest.fixture(params=["local", "s3"])
def store(request, tmp_path):
    """An empty store; every test of the contract runs on each kind."""
    if request.param == "local":
        return LocalStore(tmp_path / "store")
    return open_store(f"{URI or request.getfixturevalue('bucket')}/{uuid.uuid4().hex}")
