"""Hypothesis, at a size at which the whole folder takes a minute or two."""

import gc

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


@pytest.fixture(autouse=True)
def collected():
    """Each test's garbage goes with it, and what is left is not looked at again.

    Otherwise, a collection in some later test takes up to 40 s: it passes over all that
    TensorFlow and Keras keep, and destroys dozens of graphs at once.
    """
    yield
    gc.collect()
    gc.freeze()
