"""Times to wait between two tries, drawn without touching the random state of the training."""

from __future__ import annotations

import random

from tenacity import RetryCallState


class Backoff:
    """Up to twice as long after each try, and random, so that many machines don't ask at once.

    The generator is its own: a thread that drew from Python's would change what a script draws.

    Args:
        first: seconds, at most, after the first try.
        longest: seconds, at most, after any.
    """

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._random = random.Random()  # noqa: S311 # no secret

    def __call__(self, state: RetryCallState) -> float:
        grown = self._first * 2 ** min(state.attempt_number - 1, 30)
        return self._random.uniform(0, min(self._longest, grown))
