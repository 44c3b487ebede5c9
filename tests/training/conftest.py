"""Hypothesis, at a size at which the whole folder takes a minute or two."""

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("tests.training.trainings")

settings.register_profile(
    "training",
    deadline=None,
    max_examples=15,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("training")
