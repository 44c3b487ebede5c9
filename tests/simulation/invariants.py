"""The invariants of a store, checked after every step of every order of calls.

1. HEAD names only complete checkpoints: each manifest is there and valid, and each of its objects
   is there with its digest. Of a run that `--fresh` is moving, the copy has to be complete instead.
2. No acknowledged commit is lost: each checkpoint whose commit has returned is an ancestor of the
   newest one in HEAD, or in the HEAD of the copy that `--fresh` has made of the run. The ancestors
   of a checkpoint are itself, the earlier ones of its attempt, and those of the checkpoint from
   which its attempt has resumed. (Retention may delete an ancestor; what it led to is kept.)
3. A fenced attempt changes nothing: HEAD passes only to a higher attempt number or stays with its
   writer; an attempt deletes no object of a newer one, and writes only under its own number.
4. Nothing in force is ever deleted: neither HEAD nor an object that HEAD names, except by `--fresh`
   when the copy has it.
5. Some attempt can always go on: when all others are over, a new one claims the run, resumes if a
   commit was ever acknowledged, and commits.
6. Nobody is misled: no program ends in an undefined way or reports damage where there is none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.format.head import ENDED, Head
from keepfit.callbacks.checkpoint.format.keys import attempt_of, head_key
from keepfit.callbacks.checkpoint.format.manifest import Manifest
from tests.simulation.actor import Note
from tests.simulation.history import Node
from tests.simulation.programs import RUN
from tests.simulation.scenario import Scenario
from tests.simulation.store import Call, Contents

HEAD = head_key(RUN)

DEFINED_ENDS = ("done", "superseded", "Transient")
"""How a program may end: done, because a newer attempt owns the run, or because of a fault."""

ALARMS = frozenset({events.HEAD_DAMAGED, events.HEAD_REPAIRED, events.CHECKPOINT_REJECTED})
"""Log lines that say that the store has been damaged."""


@lru_cache(maxsize=100_000)
def head_of(content: bytes | None) -> Head | None:
    """Return the HEAD in these bytes."""
    return Head.from_bytes(content) if content is not None else None


@lru_cache(maxsize=100_000)
def manifest_of(content: bytes) -> Manifest:
    """Return the manifest in these bytes."""
    return Manifest.from_bytes(content)


@lru_cache(maxsize=100_000)
def digest_of(content: bytes) -> str:
    """Return the SHA-256 of an object."""
    return hashlib.sha256(content).hexdigest()


def copies(contents: Contents) -> list[str]:
    """Return the names of the runs that `--fresh` has moved aside, or begun to copy."""
    names = {key.partition("/")[0] for key in contents}
    return sorted(name for name in names if name.startswith(f"{RUN}."))


def is_set_aside(head: Head) -> bool:
    """Return whether `--fresh` has fenced this HEAD: it may be moving the run."""
    return head.baseline.get(ENDED) == head.attempt


def missing_of(contents: Contents, head: Head, folder: str = RUN) -> str | None:
    """Return what is wrong with the checkpoints that HEAD names, if their folder is this one."""
    for key in head.manifests():
        content = contents.get(folder + key.removeprefix(RUN))
        if content is None:
            return f"HEAD names {key}, which does not exist"
        manifest = manifest_of(content)
        for shard in manifest.shards:
            body = contents.get(folder + shard.key.removeprefix(RUN))
            if body is None or digest_of(body) != shard.digest:
                return f"HEAD names {key}, which needs {shard.key}, which is missing or wrong"
    return None


def in_force(contents: Contents) -> frozenset[str]:
    """Return HEAD's key and those of all objects that it names."""
    head = head_of(contents.get(HEAD))
    if head is None:
        return frozenset()
    manifests = [(key, contents.get(key)) for key in head.manifests()]
    objects = [o for _, body in manifests if body for o in manifest_of(body).objects()]
    return frozenset((HEAD, *(key for key, _ in manifests), *objects))


def is_ancestor(key: str, of: str, notes: Iterable[Note]) -> bool:
    """Return whether a checkpoint is an ancestor of another one; see above."""
    resumed = {note.attempt: note.key for note in notes if note.kind == "resumed"}
    while of:
        if attempt_of(RUN, of) == attempt_of(RUN, key):
            return _sequence(of) >= _sequence(key)
        of = resumed.get(attempt_of(RUN, of) or 0, "")
    return False


class Invariants:
    """The invariants for one scenario; each distinct question is answered once.

    Args:
        earlier: the notes of the programs that ended before the scenario begins.
    """

    def __init__(self, scenario: Scenario, earlier: Sequence[Note] = ()) -> None:
        self._scenario = scenario
        self._earlier = tuple(earlier)
        self._complete: dict[int, str | None] = {}
        self._judged: dict[int, str | None] = {}
        self._kept: dict[tuple[int, ...], str | None] = {}
        self._changes: dict[tuple[int, ...], str | None] = {}

    def of_state(self, number: int, contents: Contents, nodes: Sequence[Node]) -> str | None:
        """Return which of invariants 1 and 2 the state violates.

        Args:
            number: the number of the contents.
        """
        if number not in self._complete:
            self._complete[number] = _incomplete(contents)
        if problem := self._complete[number]:
            return problem
        key = (number, *[node.facts for node in nodes])
        if key not in self._kept:
            self._kept[key] = _lost(contents, self._notes(nodes))
        return self._kept[key]

    def of_change(
        self, identity: tuple[int, ...], before: Contents, after: Contents, call: Call, number: int
    ) -> str | None:
        """Return which of invariants 3 and 4 a call violates.

        Args:
            identity: identifies the arguments.
            number: number of the attempt that has made the call; 0 if it is none.
        """
        if identity not in self._changes:
            problems = (*_head_changes(before, after), *_deletions(before, after, call, number))
            self._changes[identity] = next(iter((*problems, *_foreign(call, number))), None)
        return self._changes[identity]

    def of_actor(self, node: Node) -> str | None:
        """Return how an actor violates invariant 6."""
        if node.id not in self._judged:
            self._judged[node.id] = self._judge(node)
        return self._judged[node.id]

    def of_recovery(self, contents: Contents, nodes: Sequence[Node], last: Node) -> str | None:
        """Return how invariant 5 is violated by the last attempt, which had the run for itself."""
        if problem := self.of_actor(last):
            return problem
        if last.progress.end != "done":
            return f"a new attempt can't go on: {last.progress.end}"
        notes = last.progress.notes
        if not any(note.kind == "acknowledged" for note in notes):
            return "a new attempt can't commit"
        return _incomplete(contents) or _lost(contents, self._notes(nodes))

    def _judge(self, node: Node) -> str | None:
        progress = node.progress
        if progress.crash:
            return f"a traceback: {progress.crash!r}"
        if progress.end and not progress.end.startswith((*DEFINED_ENDS, *self._scenario.ends)):
            return f"an undefined end: {progress.end}"
        if problem := next((n.key for n in progress.notes if n.kind == "problem"), None):
            return f"damage is reported where there is none: {problem}"
        alarms = ALARMS.intersection(progress.events)
        if progress.end != "done":  # an attempt that was overtaken finds out after the line
            alarms -= {events.CHECKPOINT_REJECTED}
        if self._scenario.quiet and alarms:
            return f"a false alarm: {', '.join(sorted(alarms))}"
        return None

    def _notes(self, nodes: Sequence[Node]) -> tuple[Note, ...]:
        return (*self._earlier, *(note for node in nodes for note in node.progress.notes))


def _incomplete(contents: Contents) -> str | None:
    head = head_of(contents.get(HEAD))
    if head is None:
        return None
    problem = missing_of(contents, head)
    if problem and is_set_aside(head) and any(_whole_copies(contents)):
        return None
    return problem


def _whole_copies(contents: Contents) -> Iterator[Head]:
    """Yield the HEAD of each complete copy of the run."""
    for name in copies(contents):
        head = head_of(contents.get(head_key(name)))
        if head and missing_of(contents, head, name) is None:
            yield head


def _lost(contents: Contents, notes: Sequence[Note]) -> str | None:
    """Return which acknowledged checkpoint is lost."""
    present = head_of(contents.get(HEAD))
    heads = [*([present] if present else []), *_whole_copies(contents)]
    for note in notes:
        if note.kind == "acknowledged" and not any(
            is_ancestor(note.key, key, notes) for head in heads for key in head.checkpoints[:1]
        ):
            return f"the acknowledged checkpoint {note.key} is lost"
    return None


def _head_changes(before: Contents, after: Contents) -> Iterator[str]:
    old, new = head_of(before.get(HEAD)), head_of(after.get(HEAD))
    if new is None or old == new:
        return
    if old and new.attempt <= old.attempt and new.writer != old.writer:
        yield f"attempt {new.attempt} has replaced the HEAD of attempt {old.attempt}"
    aside = [head_of(after.get(head_key(name))) for name in copies(after)]
    others = [head for head in aside if head and head.writer != new.writer]
    is_new_run = new.swaps == 0
    if old is None and not is_new_run and any(h.attempt >= new.attempt for h in others):
        yield f"attempt {new.attempt} has written HEAD anew after its run was moved aside"


def _deletions(before: Contents, after: Contents, call: Call, number: int) -> Iterator[str]:
    gone = before.keys() - after.keys()
    if not gone or call.operation == "move":
        return
    head = head_of(before.get(HEAD))
    for key in sorted(gone & in_force(before)):
        copied = any(before[key] == before.get(n + key.removeprefix(RUN)) for n in copies(before))
        if not (head and is_set_aside(head) and copied):
            yield f"{key} is deleted, and HEAD names it"
    for key in sorted(gone):
        newest = number or (head.attempt - 1 if head else 0)
        if (attempt_of(RUN, key) or 0) > newest:
            yield f"{key} is deleted by attempt {number}, and a newer attempt has written it"


def _foreign(call: Call, number: int) -> Iterator[str]:
    """Yield what is wrong with the key of a new object."""
    if call.operation == "put" and attempt_of(RUN, call.key) not in (None, number):
        yield f"attempt {number} writes {call.key}"


def _sequence(key: str) -> int:
    """Return the number of a manifest within its attempt."""
    return int(key.removesuffix(".json").rpartition("-")[2])
