"""One actor: real code that calls the store, and is begun again for each new history of answers.

The code is deterministic, so what it does next depends on nothing but the answers that it has got.
An actor therefore needs no thread that is stopped and resumed: `run` calls its program with the
answers so far, and ends it at the first call that has no answer yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from keepfit.callbacks.checkpoint.commit.attempt import Superseded
from keepfit.callbacks.checkpoint.read.documents import NoUsableCheckpoint
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.storage.base import (
    MAX_LOAD,
    Body,
    Conflict,
    Entry,
    Replacement,
    StorageError,
    Version,
    every_key,
)
from keepfit.callbacks.storage.s3.store import S3Store
from tests.simulation.store import Answer, Call, version_of

Program = Callable[["Client", "Journal"], None]
"""The code of an actor: it works on the store, and notes in the journal what users would see."""


class Suspended(BaseException):
    """The program has made a call that has no answer yet; no code of keepfit catches this."""


class NotDeterministic(Exception):
    """The same answers have led to another call than before."""


@dataclass(frozen=True)
class Note:
    """The knowledge of an actor at one point of its program.

    Attributes:
        kind: claimed, resumed, acknowledged, removed or read.
        key: key of the checkpoint that it is about; "" if none.
        attempt: number of the attempt.
    """

    kind: str
    key: str = ""
    attempt: int = 0


@dataclass
class Journal:
    """The notes of one run of a program, in order."""

    notes: list[Note] = field(default_factory=list)

    def add(self, kind: str, key: str = "", attempt: int = 0) -> None:
        """Add a note; see Note."""
        self.notes.append(Note(kind, key, attempt))


@dataclass(frozen=True)
class Progress:
    """The progress of a program with the answers so far.

    Attributes:
        call: the next call; None if the program has ended.
        end: how it ended: "done", "superseded", or the class and the text of an error of the store.
        crash: the error if none of these: a fault of the program.
        notes: see Journal.
        events: what it has logged at levels above info.
    """

    call: Call | None
    end: str | None = None
    crash: BaseException | None = None
    notes: tuple[Note, ...] = ()
    events: tuple[str, ...] = ()


class Client:
    """The store as an actor sees it: each call is answered from a history, or ends the run.

    Args:
        answers: the answers to the first calls.
        atomic_move: a move is one step, as in a directory; otherwise it is S3's sequence of calls.
    """

    uri = "sim://store"
    parallel = 1

    def __init__(self, answers: Sequence[Answer], *, atomic_move: bool = False) -> None:
        self._answers = answers
        self._atomic_move = atomic_move
        self.calls: list[Call] = []

    def put(self, key: str, body: Body, *, digest: str | None = None) -> None:
        self._ask(Call("put", key, b"".join(body)))

    def swap(self, key: str, body: bytes, *, expected: Version | None) -> Version:
        return self._ask(Call("swap", key, body, expected))

    def load(self, key: str, limit: int = MAX_LOAD) -> tuple[bytes, Version]:
        body = self._ask(Call("load", key))
        return body, version_of(body)

    def version_of(self, key: str) -> Version:
        return self.load(key)[1]

    def read_into(self, key: str, into: memoryview) -> None:
        into[:] = self._ask(Call("read", key, size=into.nbytes))

    def list(self, prefix: str) -> Iterator[Entry]:
        for key, size in self._ask(Call("list", prefix)):
            yield Entry(key, size)

    def folders(self, prefix: str) -> Iterator[str]:
        yield from self._ask(Call("folders", prefix))

    def delete(self, key: str) -> None:
        self._ask(Call("delete", key))

    def clear_unfinished(self, prefix: str, older: Callable[[str], bool] = every_key) -> None:
        """Do nothing: an object of this store appears whole, so none is unfinished."""

    def move(self, source: str, target: str, *, replace: Replacement | None = None) -> None:
        if not self._atomic_move:
            S3Store.move(self, source, target, replace=replace)  # type: ignore[arg-type]
            return
        # As LocalStore.move: one step under the lock of the run, and then the swap.
        key, expected = (replace.key, replace.expected) if replace else ("", None)
        self._ask(Call("move", source, target=target, checked=key, expected=expected))
        if replace:
            with suppress(Conflict):
                self.swap(replace.key, replace.body, expected=None)

    def _copy(self, entry: Entry, target: str) -> None:
        """Copy one object, as S3Store.move asks for it."""
        self._ask(Call("copy", entry.key, target=target))

    def _ask(self, call: Call) -> Any:
        if len(self.calls) > len(self._answers):
            raise Suspended  # code that cleans up after the suspension
        self.calls.append(call)
        if len(self.calls) > len(self._answers):
            raise Suspended
        answer = self._answers[len(self.calls) - 1]
        if answer.error:
            raise answer.error(f"{call}: {answer}")
        return answer.value


def run(program: Program, client: Client) -> Progress:
    """Run a program up to its first call without an answer, or to its end."""
    journal = Journal()
    end: str | None = "done"
    crash: BaseException | None = None
    before = len(client.calls)
    with capture_logs() as logs:
        try:
            program(client, journal)
        except Suspended:
            end = None
        except Superseded:
            end = "superseded"
        except (StorageError, NoUsableCheckpoint) as error:
            end = f"{type(error).__name__}: {error}"
        except Exception as error:  # noqa: BLE001 # the explorer reports it with the calls before it
            crash = error
    events = tuple(log["event"] for log in logs if log["log_level"] not in ("debug", "info"))
    call = client.calls[-1] if end is None and len(client.calls) > before else None
    return Progress(call, end, crash, tuple(journal.notes), events)
