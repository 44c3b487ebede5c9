"""The states of a simulation and the steps between them, as small values that are compared fast."""

from __future__ import annotations

from enum import IntEnum
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Condition(IntEnum):
    """The condition of one actor."""

    RUNNING = 0
    REPEATING = 1
    CRASHED = 2


Actors = tuple[tuple[int, Condition], ...]


class State(NamedTuple):
    """A moment of the simulation; contents, histories and calls are given by their numbers.

    Attributes:
        actors: node and condition of each actor.
        flights: requests that may still take effect, each with the actor that has sent it.
        faults: number of faults that may still happen.
    """

    contents: int
    actors: Actors
    flights: tuple[tuple[int, int], ...]
    faults: int


class Step(NamedTuple):
    """One step from a state to the next.

    Attributes:
        what: call, repeat, crash, unclear, lost or late.
        call: number of the call.
    """

    actor: int
    what: str
    call: int


def after_step(
    state: State, actor: int, node: int, condition: Condition = Condition.RUNNING, fault: int = 0
) -> State:
    """Return the state after a step of one actor, which is then at another node."""
    actors = with_actor(state.actors, actor, node, condition)
    return State(state.contents, actors, state.flights, state.faults - fault)


def with_actor(
    actors: Actors, actor: int, node: int, condition: Condition = Condition.RUNNING
) -> Actors:
    """Return the actors, of which one is now at this node and in this condition."""
    return (*actors[:actor], (node, condition), *actors[actor + 1 :])


class Table(Generic[T]):
    """Numbers for values, so that states are compared fast."""

    def __init__(self) -> None:
        self._numbers: dict[object, int] = {}
        self.values: list[T] = []

    def number(self, value: T, identity: object) -> int:
        """Return the number of the value with this identity, which is hashable."""
        if identity not in self._numbers:
            self._numbers[identity] = len(self.values)
            self.values.append(value)
        return self._numbers[identity]
