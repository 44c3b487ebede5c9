"""The journal of this attempt in its store, and the goodput of the run so far."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from typing import Final

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.commit.attempt import Attempt
from keepfit.callbacks.checkpoint.commit.cleanup import Task
from keepfit.callbacks.daemon_executor import DaemonExecutor
from keepfit.callbacks.engine.preemption import PreemptionState
from keepfit.callbacks.engine.versions import library_versions
from keepfit.callbacks.journal.document import Machine
from keepfit.callbacks.journal.goodput import Goodput, measure
from keepfit.callbacks.journal.read import RunJournals, read_journals
from keepfit.callbacks.journal.recorder import AttemptFacts, JournalRecorder, previous_entry
from keepfit.callbacks.journal.terms import Activity, ProcessEnd
from keepfit.callbacks.journal.time_account import ProcessStart
from keepfit.callbacks.journal.write import JournalWriter
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.storage.base import Store

log = get_logger()

MAX_EARLIER: Final = 200
"""Number of attempts before this one over which the goodput at its end is computed: each costs a
request. `keepfit report` reads all of them."""


class RunJournal:
    """Writes the journal of an attempt, and reads those of the attempts before it.

    No save and no training waits for either: the thread that cleans up writes, and a thread of its
    own reads.

    Attributes:
        recorder: records what the journal contains.
        previous: how the process before this one has ended, if something has watched it.
    """

    def __init__(self, store: Store, recorder: JournalRecorder) -> None:
        self.recorder = recorder
        self.previous: ProcessEnd | None = None
        self._store = store
        self._writer = JournalWriter(store, recorder.journal)
        self._attempt: Attempt | None = None
        self._reader = DaemonExecutor(1, "keepfit-journals")
        self._earlier: Future[RunJournals] | None = None

    def begin(self, attempt: Attempt) -> None:
        """Begin the journal of an attempt that has just claimed the run."""
        self._attempt = attempt
        before, head = attempt.number - 1, attempt.head
        previous = previous_entry(self.previous, before) if self.previous and before else None
        self.recorder.claimed(
            AttemptFacts(
                head.run,
                attempt.number,
                library_versions(),
                head.script.arguments if head.script else (),
                previous,
            )
        )
        attempt.submit(Task(self._writer.write, events.JOURNAL_FAILED))

    def write(self) -> None:
        """Have the present state of the journal written; nothing happens before the claim.

        The journals of earlier attempts are read from the first save on, or at the end: not while a
        checkpoint is restored.
        """
        if self._attempt:
            self._attempt.submit(Task(self._writer.write, events.JOURNAL_FAILED))
            self._earlier = self._earlier or self._read_earlier(self._attempt)

    def _read_earlier(self, attempt: Attempt) -> Future[RunJournals] | None:
        """Begin to read the journals of the attempts before this one; None if it is the first."""
        head = attempt.head
        if attempt.number == head.first_attempt:
            return None
        return self._reader.submit(
            read_journals,
            self._store,
            head.run,
            first=head.first_attempt,
            before=attempt.number,
            at_most=MAX_EARLIER,
        )

    def goodput(self, seconds: float) -> Goodput | None:
        """Return the goodput of the run over this attempt and those before it.

        Args:
            seconds: how long to wait for the journals of the attempts before it.

        Returns:
            The goodput; None if the run was not claimed, or those journals can't be read in time.
        """
        own = self.recorder.journal()
        if own is None:
            return None
        earlier = RunJournals()
        if self._earlier:
            try:
                earlier = self._earlier.result(seconds)
            except NotInTime:
                return None
            except Exception as error:  # noqa: BLE001 # optional work: no error of it ends anything
                log.warning(events.JOURNAL_FAILED, reason=str(error) or repr(error))
                return None
        return measure((*earlier.journals, own))

    def close(self) -> None:
        """Stop reading; what has been asked to be written is written by the cleanup."""
        self._reader.shutdown(wait=False, cancel_futures=True)


def new_recorder(
    preemption: PreemptionState,
    before: Activity = Activity.STARTUP,
    machine: Callable[[], Machine] = Machine,
) -> JournalRecorder:
    """Return a recorder of the journal of an attempt.

    Args:
        before: the activity since the start of the process.
        machine: returns what is known of the machine by now.
    """

    def notices() -> list[tuple[str, float, float | None]]:
        return [(n.source, n.received, n.deadline) for n in preemption.received]

    return JournalRecorder(ProcessStart.of_this_process(), before, machine, notices)
