"""Waiting times between tries, drawn without touching the random state of the training."""

from __future__ import annotations

import random

from tenacity import RetryCallState


class Backoff:
    """Random waiting times for tenacity, whose upper limit doubles after each try.

    They are random so that many machines don't retry at the same moment. They come from a generator
    of its own: a thread that drew from Python's global one would change what the script draws.

    Args:
        first: upper limit in seconds after the first try.
        longest: upper limit in seconds after any try.
    """

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._random = random.Random()  # noqa: S311 # nosec B311 # no secret

    def __call__(self, state: RetryCallState) -> float:
        return self.seconds(state.attempt_number)

    def seconds(self, failed: int) -> float:
        """Return the seconds to wait after so many tries in a row have failed."""
        doubled = self._first * 2 ** min(failed - 1, 30)
        return self._random.uniform(0, min(self._longest, doubled))
