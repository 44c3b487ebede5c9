"""The histories of the actors as a tree: which call follows which answers.

The real code runs once for each distinct history, however many interleavings lead to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from keepfit.callbacks.checkpoint.format.head import Head
from keepfit.callbacks.storage.base import Conflict
from tests.simulation.actor import Client, NotDeterministic, Note, Program, Progress, run
from tests.simulation.determinism import Process
from tests.simulation.store import Answer, Call


@dataclass
class Node:
    """One actor after one history of answers.

    Attributes:
        number: the number of the attempt that the actor is, or takes itself for; 0 before it
            claims.
        facts: identifies the notes of the actor so far.
    """

    id: int
    actor: int
    parent: Node | None
    answer: Answer | None
    progress: Progress
    number: int
    facts: int
    children: dict[Answer, Node] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """True if the program has ended."""
        return self.progress.call is None

    def path(self) -> tuple[list[Call], list[Answer]]:
        """Return the calls before this node, and their answers."""
        calls: list[Call] = []
        answers: list[Answer] = []
        node = self
        while node.parent and node.parent.progress.call and node.answer:
            calls.append(node.parent.progress.call)
            answers.append(node.answer)
            node = node.parent
        return calls[::-1], answers[::-1]


class Histories:
    """All histories of the actors that have been seen so far.

    Args:
        actors: name and program of each actor.
        atomic_move: see Client.

    Attributes:
        runs: how often a program was run.
    """

    def __init__(
        self, process: Process, actors: Sequence[tuple[str, Program]], *, atomic_move: bool = False
    ) -> None:
        self._process = process
        self._actors = actors
        self._atomic_move = atomic_move
        self._facts: dict[tuple[Note, ...], int] = {}
        self._first: dict[int, Node] = {}
        self.nodes: list[Node] = []
        self.runs = 0

    def begin(self, actor: int) -> Node:
        """Return the actor before it has got any answer."""
        if actor not in self._first:
            self._first[actor] = self._node(actor, None, None, 0)
        return self._first[actor]

    def after(self, node: Node, answer: Answer) -> Node:
        """Return the actor after one more answer."""
        if answer not in node.children:
            node.children[answer] = self._node(
                node.actor, node, answer, _number(node, node.progress.call, answer)
            )
        return node.children[answer]

    def _node(self, actor: int, parent: Node | None, answer: Answer | None, number: int) -> Node:
        calls, answers = parent.path() if parent else ([], [])
        if parent and parent.progress.call and answer:
            calls, answers = [*calls, parent.progress.call], [*answers, answer]
        name, program = self._actors[actor]
        client = Client(answers, atomic_move=self._atomic_move)
        self._process.begin(name, actor, client)
        progress = run(program, client)
        self.runs += 1
        if client.calls[: len(calls)] != calls:
            raise NotDeterministic(f"{name}: {client.calls} instead of {calls}")
        facts = self._facts.setdefault(progress.notes, len(self._facts))
        node = Node(len(self.nodes), actor, parent, answer, progress, number, facts)
        self.nodes.append(node)
        return node


def _number(node: Node, call: Call | None, answer: Answer) -> int:
    """Return the number of the attempt that the actor takes itself for after this answer."""
    if call and call.operation == "swap" and answer.error is not Conflict:
        return Head.from_bytes(call.body).attempt
    return node.number
