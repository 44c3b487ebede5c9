"""The limits of a run, `--max-hours` and `--max-cost`: a source of notices, and a check at start.

The limits count over all attempts: what the earlier ones have used is in their journals, which a
thread reads while the script imports TensorFlow. They are needed when the first `fit` is about to
claim the run, so that an attempt beyond a limit takes nothing over. From there on the moment is
known at which the limit is reached; the notice comes then, and training ends at its next batch.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.format.head import Head
from keepfit.callbacks.daemon_executor import DaemonExecutor
from keepfit.callbacks.engine.preemption import Notice, PreemptionState
from keepfit.callbacks.engine.session import Session
from keepfit.callbacks.errors import LimitReached, Refused
from keepfit.callbacks.journal.document import Machine
from keepfit.callbacks.journal.read import RunJournals, read_journals
from keepfit.callbacks.journal.recorder import previous_entry
from keepfit.callbacks.journal.time_account import ProcessStart
from keepfit.callbacks.journal.usage import (
    Allowance,
    Limits,
    Usage,
    allowances,
    attempts_text,
    usage_of,
)
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.storage import open_store
from keepfit.callbacks.storage.base import Store

log = get_logger()

PRICE_SECONDS: Final = 30.0
"""Seconds for which the first `fit` waits at most for the price of the machine."""

LARGER: Final = (
    "a larger limit continues from the newest checkpoint: the same command with a larger "
    "{option}, on AWS `keepfit submit --resume {option} N …`"
)

PriceFinder = Callable[[float], tuple[Machine, str]]
"""Returns the machine, with its price if that is known after so many seconds, and why it is not."""

HistoryPrices = Callable[[RunJournals], RunJournals]
"""Returns the journals with prices that they lack, as far as these can be found."""


def unchanged(found: RunJournals) -> RunJournals:
    """Return the journals as they are: no prices can be found."""
    return found


@dataclass(frozen=True)
class LimitRequest:
    """The limits, and what is needed to count what a run has used.

    Attributes:
        hourly_price: the price that the user has given, which then counts for earlier attempts
            without a price also.
        uri, run: the store and the run whose journals are read ahead.
    """

    limits: Limits
    hourly_price: float | None
    uri: str
    run: str


class LimitWatcher:
    """Counts what a run may still use, and gives notice when that is used up.

    Args:
        price: finds the price of this machine.
        history: finds the prices of the machines of earlier attempts.
        start: the start of this process.
        clock: returns the present time in seconds, as time.monotonic() does.
    """

    def __init__(
        self,
        request: LimitRequest,
        session: Session,
        price: PriceFinder,
        history: HistoryPrices,
        *,
        start: ProcessStart | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._request = request
        self._session = session
        self._price = price
        self._history = history
        self._start = start or ProcessStart.of_this_process()
        self._clock = clock
        self._stopped = threading.Event()
        self._reader = DaemonExecutor(1, "keepfit-limits")
        self._read: Future[tuple[str, RunJournals]] | None = None
        self._count: Callable[[], Allowance] | None = None
        self._run = request.run

    def start(self) -> None:
        """Begin to read the journals of the run that was asked for."""
        request = self._request

        def read() -> tuple[str, RunJournals]:
            store = open_store(request.uri, self._session.preemption.deadline)
            return store.uri, self._read_all(store, request.run)

        self._read = self._reader.submit(read)

    def stop(self) -> None:
        """Stop watching, without waiting."""
        self._stopped.set()
        self._reader.shutdown(wait=False, cancel_futures=True)

    def admit(self, store: Store, run: str, head: Head | None) -> None:
        """Check that this attempt may train; called before the run is claimed.

        Raises:
            LimitReached: the run has used what it may.
            Refused: what it has used can't be counted; the log says why.
            StorageError: the journals can't be read.
        """
        price = self._price_of_this_machine(run)
        usage = self._usage(store, run, head)
        if usage.unpriced and self._request.limits.max_cost is not None:
            raise _refuse(
                run,
                f"the price of the machine of {attempts_text(usage.unpriced)} is not known, so "
                "what the run has cost is not",
            )

        def count() -> Allowance:
            elapsed = self._clock() - self._start.monotonic
            return allowances(self._request.limits, usage, elapsed, price)[0]

        self._count, self._run = count, run
        left = count()
        if left.seconds <= 0:
            _report(run, left, reason="the limit was reached before; nothing is trained")
            raise LimitReached
        thread = threading.Thread(
            target=self._watch, args=(run, count), name="keepfit-limit", daemon=True
        )
        thread.start()

    def report_end(self) -> None:
        """Log how the attempt has ended at a limit, and how to continue.

        At a limit that was reached before, `admit` has logged it.
        """
        session, notice = self._session, self._session.preemption.notice
        if self._count is None or notice is None or not notice.limit:
            return
        lost = session.uncommitted_steps
        _report(
            self._run,
            self._count(),
            reason="the limit is reached",
            step=session.reached_step,
            saved=not lost,
            lost=lost,
        )

    def _watch(self, run: str, count: Callable[[], Allowance]) -> None:
        """Wait until the limit is reached; then give notice."""
        while (left := count()).seconds > 0:
            if self._stopped.wait(min(left.seconds, threading.TIMEOUT_MAX)):
                return
        if self._stopped.is_set():
            return
        give_notice(self._session.preemption, left)
        log.info(
            events.NOTICE,
            run=run,
            source=left.option,
            reaction="save at the next batch and exit",
        )

    def _price_of_this_machine(self, run: str) -> float | None:
        if self._request.limits.max_cost is None:
            return None
        if self._request.hourly_price is not None:
            return self._request.hourly_price
        machine, reason = self._price(PRICE_SECONDS)
        if machine.hourly_price is None:
            raise _refuse(run, f"the price of this machine is not known: {reason}")
        return machine.hourly_price

    def _usage(self, store: Store, run: str, head: Head | None) -> Usage:
        if head is None:
            return Usage()
        found = self._read_ahead(store, run) or self._read_all(store, run)
        journals = tuple(j for j in found.journals if j.attempt >= head.first_attempt)
        unreadable = {n: why for n, why in found.unreadable.items() if n >= head.first_attempt}
        found = replace(found, journals=journals, unreadable=unreadable, first=head.first_attempt)
        watched = self._session.previous
        previous = previous_entry(watched, head.attempt) if watched else None
        price = self._request.hourly_price
        return usage_of(found, head.attempt, previous, price)

    def _read_ahead(self, store: Store, run: str) -> RunJournals | None:
        """Return the journals that are read since the start, if they are those of this run."""
        if self._read is None or run != self._request.run:
            return None
        uri, found = self._read.result()
        return found if uri == store.uri else None

    def _read_all(self, store: Store, run: str) -> RunJournals:
        found = read_journals(store, run)
        if self._request.limits.max_cost is None or self._request.hourly_price is not None:
            return found
        return self._history(found)


def give_notice(preemption: PreemptionState, reached: Allowance) -> None:
    """Give the notice that a limit is reached: the run saves at its next batch, and ends."""
    preemption.give_notice(Notice(reached.option, limit=True))


def _report(run: str, left: Allowance, **more: object) -> None:
    option = left.option.split(" ", 1)[0]
    log.warning(
        events.LIMIT_REACHED,
        run=run,
        limit=left.option,
        used=left.used,
        **more,
        fix=LARGER.format(option=option),
    )


def _refuse(run: str, reason: str) -> Refused:
    """Log that the cost of a run can't be counted; return the exception to raise."""
    log.error(
        events.REFUSED,
        run=run,
        reason=f"--max-cost: {reason}",
        fix="give --hourly-price USD, which counts for every attempt whose price is not known; "
        "or limit the time with --max-hours",
    )
    return Refused()


@contextmanager
def watch_limits(
    request: LimitRequest,
    session: Session,
    price: PriceFinder,
    history: HistoryPrices,
) -> Iterator[LimitWatcher]:
    """Watch the limits of a run until the block ends."""
    watcher = LimitWatcher(request, session, price, history)
    session.admit = watcher.admit
    watcher.start()
    try:
        yield watcher
    finally:
        watcher.stop()
