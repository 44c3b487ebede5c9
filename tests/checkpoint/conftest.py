"""Hypothesis, at a size at which the whole suite takes seconds; and a run to work on."""

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
    """A folder in memory for what a module's tests copy."""
    with TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


@pytest.fixture
def tmp_path():
    """Pytest's fixture of that name, in memory."""
    with TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


@pytest.fixture
def store(tmp_path):
    """An empty directory as a store."""
    return LocalStore(tmp_path)
