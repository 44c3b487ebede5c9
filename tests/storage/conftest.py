"""The stores on which the contract is tested: a local one and one in S3.

KEEPFIT_TEST_STORE names a store in S3 to use in place of the server that scripts/test starts.
"""

import os
import uuid

import pytest

from keepfit.callbacks.storage import open_store
from keepfit.callbacks.storage.local import LocalStore

URI = os.environ.get("KEEPFIT_TEST_STORE")


@pytest.fixture(params=["local", "s3"])
def store(request, tmp_path):
    """Return an empty store; every test of the contract runs on each kind."""
    if request.param == "local":
        return LocalStore(tmp_path / "store")
    return open_store(f"{URI or request.getfixturevalue('bucket')}/{uuid.uuid4().hex}")
