"""A Hypothesis profile small enough for the whole folder to take a minute or two."""

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
def collect_garbage():
    """Collect garbage after each test, and exclude the remaining objects from later collections.

    Otherwise, a collection in some later test takes up to 40 s: it traverses everything that
    TensorFlow and Keras keep, and destroys dozens of graphs at once.
    """
    yield
    gc.collect()
    gc.freeze()
