"""The commands configure the log of their process; here they share one with other tests."""

import pytest
import structlog


@pytest.fixture(autouse=True)
def log_as_before():
    """What a command has configured ends with the test."""
    yield
    structlog.reset_defaults()
