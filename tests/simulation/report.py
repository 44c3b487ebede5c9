"""The report of an exploration: its numbers, and the trace of a violation."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Report:
    """The result of an exploration.

    Attributes:
        interleavings: number of complete orders of steps, all of which are covered.
        states: number of distinct states, each of which was expanded once.
        steps: number of steps that were tried.
        runs: number of times that real code was run.
        ends: number of distinct final states by how the actors ended.
        violation: the first violation; None if there is none.
        trace: the steps that lead to it.
    """

    scenario: str
    interleavings: int = 0
    states: int = 0
    steps: int = 0
    runs: int = 0
    seconds: float = 0.0
    ends: Counter[tuple[str, ...]] = field(default_factory=Counter)
    violation: str | None = None
    trace: tuple[str, ...] = ()

    @property
    def pruned(self) -> int:
        """Number of interleavings that need no expansion of their own: their end is known."""
        return self.interleavings - sum(self.ends.values())

    def __str__(self) -> str:
        counted = (
            f"{self.scenario}: {self.interleavings:.4g} interleavings, {self.states} states, "
            f"{self.steps} steps, {self.runs} runs of real code, {self.seconds:.1f} s"
        )
        if self.violation is None:
            return counted
        return "\n".join((counted, f"VIOLATION: {self.violation}", *self.trace))


def without_digests(text: str) -> str:
    """Return a line without the digests, of which the first digits tell enough."""
    return re.sub(r"\b([0-9a-f]{6})[0-9a-f]{58}\b", r"\1", text)
