"""A scenario: which actors meet, from which contents of the store, and what may go wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.simulation.actor import Program


@dataclass(frozen=True)
class Scenario:
    """A scenario to explore.

    Attributes:
        actors: name and program of each actor; they run at the same time.
        before: programs that run one after the other, alone, before the actors begin.
        claimed: number of actors, from the first, that claim and resume before the others begin.
        recoveries: programs, of which one has to succeed once the others are over.
        faults: number of faults in one interleaving.
        atomic_move: the store is a directory, which moves a run in one step.
        quiet: no actor may log that HEAD is damaged or missing, since it never is.
        ends: ends of programs, beside the usual ones, that are defined in this scenario.
        floor: the least number of interleavings that the exploration covers.
    """

    name: str
    actors: Sequence[tuple[str, Program]]
    before: Sequence[tuple[str, Program]] = ()
    claimed: int = 0
    recoveries: Sequence[tuple[str, Program]] = ()
    faults: int = 1
    atomic_move: bool = False
    quiet: bool = True
    ends: tuple[str, ...] = ()
    floor: int = 1
