"""The threads that poll sources for notices, and record them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from keepfit.callbacks import events
from keepfit.callbacks.engine.preemption import Notice, PreemptionState
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.runner_settings import NoticeSettings, OnNotice
from keepfit.job.notices import custom, documents
from keepfit.job.notices.documents import excerpt
from keepfit.job.notices.imds import InstanceMetadata
from keepfit.job.notices.source import NoticeSource, SourceMessage, SourceUnavailable

log = get_logger()

POLL_SECONDS = 5.0
"""Seconds between two polls, as AWS recommends."""

MAX_POLL_SECONDS = 60.0
"""Seconds at most between two polls of a source that does not answer."""

REPORT = "report it; the source is polled again, more rarely"


@dataclass(frozen=True)
class ReactionPolicy:
    """The reaction to a notice.

    Attributes:
        training_allowed: the time until a known deadline is used for training.
        hold_until_deadline: on a Spot instance, the process does not exit before the deadline.
    """

    training_allowed: bool = True
    hold_until_deadline: bool = False

    def make_notice(self, warning: documents.MachineWarning, now: float) -> Notice:
        """Return the notice for a warning; `now` is the present time of time.monotonic().

        If the machine should be gone by now, there is no deadline: haste would gain nothing.
        """
        if not warning.seconds:
            return Notice(warning.source)
        return Notice(
            warning.source,
            now + warning.seconds,
            training_allowed=self.training_allowed and warning.time_known,
            hold_until_deadline=self.hold_until_deadline
            and warning.source.startswith(documents.SPOT),
        )


class NoticeWatcher:
    """Polls one source until it is stopped, or until the source reports the machine's end."""

    def __init__(
        self,
        source: NoticeSource,
        preemption: PreemptionState,
        reaction: ReactionPolicy = ReactionPolicy(),
        *,
        every: float = POLL_SECONDS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._source = source
        self._preemption = preemption
        self._reaction = reaction
        self._every = every
        self._now = now
        self._stopped = threading.Event()
        self._pause = every
        self._failures: set[str] | None = None  # kinds since the last answer; None: not polled yet
        self._seen: set[tuple[str, str]] = set()
        self._finished = False
        # A generator of its own: Python's global one belongs to the script.
        self._random = random.Random()  # noqa: S311 # nosec B311 # no secret
        self._thread = threading.Thread(target=self._watch, name="keepfit-watcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop polling, without waiting: a request may still take up to two seconds."""
        self._stopped.set()

    def poll(self) -> None:
        """Fetch all messages once, and act on them."""
        present = set()
        try:
            for message in self._source.fetch():
                if self._stopped.is_set():
                    return
                present.add((message.path, message.text))
                if self._failures is None:
                    self._log_available()  # the line before its first notice
                self._handle(message)
                if self._finished:
                    break
        except SourceUnavailable as error:
            self._fail(error.kind, str(error), error.fix)
        except Exception as error:  # noqa: BLE001 # of one poll; the next one may go well
            self._fail(type(error).__name__, f"unexpected: {excerpt(repr(error))}", REPORT)
        else:
            self._pause = self._every
            self._seen &= present
            self._log_available()

    def _handle(self, message: SourceMessage) -> None:
        repeated = (message.path, message.text) in self._seen
        self._seen.add((message.path, message.text))
        try:
            warning = self._source.parse(message, message.at or self._now())
        except (ValueError, KeyError, TypeError) as error:
            if not repeated:
                log.warning(
                    events.NOTICE_UNREADABLE,
                    source=message.path,
                    text=excerpt(message.text),
                    reason=excerpt(repr(error)),
                )
                self._preemption.request_save()
            return
        if warning is None or (repeated and not warning.terminates):
            return
        notice = self._reaction.make_notice(warning, time.monotonic())
        self._finished = warning.terminates
        reaction = "save at the next batch and continue"
        if notice.training_allowed and warning.terminates:
            reaction = "save at the next batch, train on, and save again shortly before the exit"
        elif warning.terminates:
            reaction = "save at the next batch and exit"
        if warning.terminates:
            self._preemption.give_notice(notice)
        if notice.training_allowed or not warning.terminates:
            self._preemption.request_save()
        log.info(events.NOTICE, source=warning.source, seconds=warning.seconds, reaction=reaction)

    def _log_available(self) -> None:
        """Log that the source answers: at the start, and after failures."""
        if self._failures is None or self._failures:
            log.info(events.MACHINE_WATCHED, **self._source.describe())
        self._failures = set()

    def _fail(self, kind: str, reason: str, fix: str | None) -> None:
        """Poll more rarely, and log the failure: each kind once until the source answers."""
        if self._stopped.is_set():
            return
        self._pause = min(MAX_POLL_SECONDS, self._pause * 2)
        failures = self._failures or set()
        if kind not in failures:
            log.info(
                events.MACHINE_NOT_WATCHED,
                **self._source.describe(),
                reason=reason,
                **({"fix": fix} if fix else {}),
            )
        self._failures = failures | {kind}

    def _watch(self) -> None:
        while not self._stopped.is_set() and not self._finished:
            self.poll()
            self._stopped.wait(self._pause * self._random.uniform(0.8, 1.2))


@contextmanager
def watch_machine(
    preemption: PreemptionState, settings: NoticeSettings, environment: Mapping[str, str]
) -> Iterator[None]:
    """Watch the machine, and the file or URL in the settings, until the block ends."""
    reaction = ReactionPolicy(
        training_allowed=settings.on_notice == OnNotice.TRAIN_ON,
        hold_until_deadline=settings.hold_until_deadline(environment),
    )
    sources: list[NoticeSource | None] = [InstanceMetadata.from_environment(environment)]
    if settings.watch:
        sources.append(custom.custom_source(settings.watch, settings.grace_seconds))
    with ExitStack() as stack:
        for source in filter(None, sources):
            watcher = NoticeWatcher(source, preemption, reaction)
            watcher.start()
            stack.callback(watcher.stop)
        yield
