"""The fixtures of tests/adapters: a small training for callbacks, and the log events."""

from tests.adapters.conftest import logged, train

__all__ = ["logged", "train"]
