"""Explore every order in which the calls of several actors can reach one store, with faults.

A state is what the future depends on: the contents of the store, the history of each actor, the
requests in flight, and the faults that may still happen. Orders of calls that lead to one state
are equivalent from there on, so each state is expanded once; the number of orders that lead to it
is counted. States are visited in order of their number of steps, so the first violation that is
found has a trace of minimal length.

Faults, of which each interleaving has at most as many as the scenario says:

- crash: the process ends instead of making its next call, or while that request is in flight: it
  takes effect at any later moment, or never;
- unclear: the caller gets Transient; the request takes effect at any later moment, or never;
- lost: the call takes effect and its answer is lost, so the store repeats it at any later moment,
  as the store of S3 does by itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from keepfit.callbacks.storage.base import Transient
from tests.simulation.actor import Note
from tests.simulation.determinism import Process
from tests.simulation.history import Histories, Node
from tests.simulation.invariants import Invariants
from tests.simulation.report import Report, without_digests
from tests.simulation.scenario import Scenario
from tests.simulation.states import Condition, State, Step, Table, after_step, with_actor
from tests.simulation.store import Answer, Call, Contents, apply, repeat

UNCLEAR = Answer(error=Transient)

REPEATED = frozenset({"put", "swap", "delete", "copy"})
"""The operations that the store of S3 repeats by itself when an answer is lost."""


class Explorer:
    """Explores one scenario. Use it once, within `deterministic()`.

    Args:
        everywhere: let a new attempt take over from each state, not only when all others are over.
    """

    def __init__(self, scenario: Scenario, process: Process, *, everywhere: bool = False) -> None:
        self._scenario = scenario
        self._everywhere = everywhere
        actors = [*scenario.actors, *scenario.recoveries, *scenario.before]
        self._histories = Histories(process, actors, atomic_move=scenario.atomic_move)
        self._contents: Table[Contents] = Table()
        self._calls: Table[Call] = Table()
        self._carried_out: dict[tuple[int, int, bool], tuple[int, Answer]] = {}
        self._recovered: dict[tuple[int, tuple[int, ...]], str | None] = {}
        self._parents: list[dict[State, tuple[State, Step]]] = []
        self._start, earlier = self._run_before()
        self._invariants = Invariants(scenario, earlier)

    def explore(self) -> Report:
        """Visit every state, up to the first violation."""
        report = Report(self._scenario.name)
        started = time.monotonic()
        first = self._first_state()
        level = {first: 1}
        while level and report.violation is None:
            level = self._expand(level, report)
        report.runs = self._histories.runs
        report.seconds = time.monotonic() - started
        return report

    def enumerate_ends(self) -> Iterator[tuple[str, ...]]:
        """Yield the end of each interleaving, one by one: nothing is merged."""
        waiting = [self._first_state()]
        while waiting:
            state = waiting.pop()
            if not self._is_anyone_running(state):
                yield self._ends(state)
            waiting.extend(after for _, after in self._steps(state))

    def _expand(self, level: Mapping[State, int], report: Report) -> dict[State, int]:
        """Expand all states of one number of steps; return those that follow.

        Args:
            level: the states, each with the number of orders that lead to it.
        """
        following: dict[State, int] = {}
        parents: dict[State, tuple[State, Step]] = {}
        self._parents.append(parents)
        for state, orders in level.items():
            report.states += 1
            if problem := self._problem_of(state):
                return self._fail(report, problem, state)
            if not self._is_anyone_running(state):
                report.interleavings += orders
                report.ends[self._ends(state)] += 1
            for step, after in self._steps(state):
                report.steps += 1
                following[after] = following.get(after, 0) + orders
                parents.setdefault(after, (state, step))
                if problem := self._problem_of_step(state, step, after):
                    return self._fail(report, problem, after)
        return following

    def _steps(self, state: State) -> Iterator[tuple[Step, State]]:
        """Yield each step that is possible in a state, with the state after it."""
        for actor, (number, condition) in enumerate(state.actors):
            node = self._histories.nodes[number]
            if condition == Condition.CRASHED or node.progress.call is None:
                continue
            call = self._calls.number(node.progress.call, node.progress.call)
            if condition == Condition.REPEATING:
                yield self._answered(state, Step(actor, "repeat", call), node)
                continue
            yield self._answered(state, Step(actor, "call", call), node)
            if state.faults:
                yield from self._faults(state, actor, node, call)
        for flight in state.flights:
            contents, _ = self._carry_out(state.contents, flight[1])
            if contents != state.contents:
                rest = tuple(other for other in state.flights if other != flight)
                yield (
                    Step(flight[0], "late", flight[1]),
                    State(contents, state.actors, rest, state.faults),
                )

    def _faults(
        self, state: State, actor: int, node: Node, call: int
    ) -> Iterator[tuple[Step, State]]:
        """Yield the faults that can happen to the next call of an actor."""
        unclear = self._histories.after(node, UNCLEAR)
        if not self._calls.values[call].writes:
            # A crash here equals one at the next write, which then never takes effect.
            yield Step(actor, "unclear", call), after_step(state, actor, unclear.id, fault=1)
            return
        flown = state._replace(flights=(*state.flights, (actor, call)))
        yield Step(actor, "unclear", call), after_step(flown, actor, unclear.id, fault=1)
        crashed = after_step(flown, actor, node.id, Condition.CRASHED, fault=1)
        yield Step(actor, "crash", call), crashed
        contents, _ = self._carry_out(state.contents, call)
        if self._calls.values[call].operation in REPEATED and contents != state.contents:
            lost = state._replace(contents=contents)
            yield (
                Step(actor, "lost", call),
                after_step(lost, actor, node.id, Condition.REPEATING, 1),
            )

    def _answered(self, state: State, step: Step, node: Node) -> tuple[Step, State]:
        """Return a step whose call is carried out and answered, and the state after it."""
        contents, answer = self._carry_out(state.contents, step.call, again=step.what == "repeat")
        after = self._histories.after(node, answer)
        actors = with_actor(state.actors, step.actor, after.id)
        return step, State(contents, actors, state.flights, state.faults)

    def _carry_out(self, contents: int, call: int, *, again: bool = False) -> tuple[int, Answer]:
        key = (contents, call, again)
        if key not in self._carried_out:
            do = repeat if again else apply
            changed, answer = do(self._contents.values[contents], self._calls.values[call])
            self._carried_out[key] = self._number(changed), answer
        return self._carried_out[key]

    def _number(self, contents: Contents) -> int:
        return self._contents.number(contents, frozenset(contents.items()))

    def _is_anyone_running(self, state: State) -> bool:
        return any(
            condition != Condition.CRASHED and not self._histories.nodes[node].is_over
            for node, condition in state.actors
        )

    def _problem_of(self, state: State) -> str | None:
        """Return which invariant the state violates."""
        contents = self._contents.values[state.contents]
        nodes = [self._histories.nodes[node] for node, _ in state.actors]
        problem = self._invariants.of_state(state.contents, contents, nodes)
        if problem or not (self._everywhere or not self._is_anyone_running(state)):
            return problem
        key = (state.contents, tuple(node.facts for node in nodes))
        if key not in self._recovered:
            self._recovered[key] = self._recover(state, nodes)
        return self._recovered[key]

    def _problem_of_step(self, state: State, step: Step, after: State) -> str | None:
        """Return which invariant the step violates."""
        node = self._histories.nodes[after.actors[step.actor][0]]
        before = self._histories.nodes[state.actors[step.actor][0]]
        if problem := self._invariants.of_actor(node):
            return problem
        if after.contents == state.contents:
            return None
        call = self._calls.values[step.call]
        number = max(before.number, node.number)
        return self._invariants.of_change(
            (state.contents, after.contents, step.call, number),
            self._contents.values[state.contents],
            self._contents.values[after.contents],
            call,
            number,
        )

    def _recover(self, state: State, nodes: list[Node]) -> str | None:
        """Let a new attempt take over, alone; return what goes wrong."""
        problems = []
        for recovery in range(len(self._scenario.recoveries)):
            actor = len(self._scenario.actors) + recovery
            contents, node = self._run_alone(actor, state.contents)
            after = self._contents.values[contents]
            problem = self._invariants.of_recovery(after, [*nodes, node], node)
            if problem is None:
                return None
            problems.append(problem)
        return "; ".join(problems)

    def _run_before(self) -> tuple[int, list[Note]]:
        """Run the programs before the scenario; return the contents after them, and their notes."""
        contents = self._number({})
        notes: list[Note] = []
        first = len(self._scenario.actors) + len(self._scenario.recoveries)
        for actor in range(first, first + len(self._scenario.before)):
            contents, node = self._run_alone(actor, contents)
            if node.progress.end != "done":
                raise AssertionError(f"{self._scenario.name}: {node.progress}")
            notes.extend(node.progress.notes)
        return contents, notes

    def _first_state(self) -> State:
        """Return the state from which all actors run at once."""
        contents, nodes = self._start, []
        for actor in range(len(self._scenario.actors)):
            node = self._histories.begin(actor)
            while actor < self._scenario.claimed and not _has_resumed(node):
                contents, node = self._answer_alone(contents, node)
            nodes.append((node.id, Condition.RUNNING))
        return State(contents, tuple(nodes), (), self._scenario.faults)

    def _answer_alone(self, contents: int, node: Node) -> tuple[int, Node]:
        """Carry out the next call of an actor, and return the contents and the actor after it."""
        call = node.progress.call
        if call is None:
            raise AssertionError(f"{self._scenario.name}: {node.progress}")
        contents, answer = self._carry_out(contents, self._calls.number(call, call))
        return contents, self._histories.after(node, answer)

    def _run_alone(self, actor: int, contents: int) -> tuple[int, Node]:
        """Run a program to its end while no other one runs; return the contents and its end."""
        node = self._histories.begin(actor)
        while not node.is_over:
            contents, node = self._answer_alone(contents, node)
        return contents, node

    def _ends(self, state: State) -> tuple[str, ...]:
        """Return how each actor ended."""
        return tuple(
            "crashed"
            if condition == Condition.CRASHED
            else str(self._histories.nodes[node].progress.end).partition(":")[0]
            for node, condition in state.actors
        )

    def _fail(self, report: Report, problem: str, state: State) -> dict[State, int]:
        report.violation = without_digests(problem)
        trace = []
        for parents in reversed(self._parents):
            if state in parents:
                before, step = parents[state]
                trace.append(self._describe(before, step, state))
                state = before
        report.trace = tuple(reversed(trace))
        return {}

    def _describe(self, before: State, step: Step, after: State) -> str:
        """Return a step in words."""
        name = self._scenario.actors[step.actor][0]
        call = self._calls.values[step.call]
        node = self._histories.nodes[after.actors[step.actor][0]]
        answer = node.answer if node.id != before.actors[step.actor][0] else None
        shown = f"  {name:<8} {step.what:<8} {call}"
        return without_digests(f"{shown}  ({answer})" if answer else shown)


def _has_resumed(node: Node) -> bool:
    return any(note.kind == "resumed" for note in node.progress.notes)
