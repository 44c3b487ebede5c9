"""Hypothesis settings that keep these tests within seconds, and fixtures for stores."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings

from keepfit.callbacks.storage.local import LocalStore
from tests.checkpoint.samples import MEMORY

settings.register_profile(
    "keepfit",
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("keepfit")


@pytest.fixture(scope="module")
def module_folder():
    """Return a folder in memory for files that the tests of one module share and copy."""
    with TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


@pytest.fixture
def tmp_path():
    """Return a folder in memory; replaces pytest's fixture of the same name."""
    with TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


@pytest.fixture
def store(tmp_path):
    """Return an empty local store."""
    return LocalStore(tmp_path)
