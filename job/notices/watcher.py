"""The threads that ask for notices, and tell the session what they hear."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from keepfit.callbacks import events as names
from keepfit.callbacks.session import Notice, Session
from keepfit.job.notice_settings import NoticeSettings, OnNotice
from keepfit.job.notices import custom, documents
from keepfit.job.notices.imds import InstanceMetadata
from keepfit.job.notices.source import NoticeSource, SourceMessage, SourceUnavailable

log = structlog.get_logger("keepfit")

POLL_SECONDS = 5.0
"""Seconds between two polls, as AWS recommends."""

MAX_POLL_SECONDS = 60.0
"""Seconds at most between two polls where nothing answers."""


@dataclass(frozen=True)
class ReactionPolicy:
    """What is to follow a notice.

    Attributes:
        training_allowed: a known deadline is used for training.
        hold_until_deadline: a Spot instance is not left before it is gone.
    """

    training_allowed: bool = True
    hold_until_deadline: bool = False

    def to(self, warned: documents.MachineWarning, now: float) -> Notice:
        """The notice that the warning is, at this time of time.monotonic().

        A machine that should have gone by now has no deadline: nothing is to be gained by haste.
        """
        if not warned.seconds:
            return Notice(warned.source)
        return Notice(
            warned.source,
            now + warned.seconds,
            training_allowed=self.training_allowed and warned.known,
            hold_until_deadline=self.hold_until_deadline
            and warned.source.startswith(documents.SPOT),
        )


class NoticeWatcher:
    """Polls one source until it is stopped, or has said that the machine goes."""

    def __init__(
        self,
        source: NoticeSource,
        session: Session,
        reaction: ReactionPolicy = ReactionPolicy(),
        *,
        every: float = POLL_SECONDS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._source = source
        self._session = session
        self._reaction = reaction
        self._every = every
        self._now = now
        self._stopped = threading.Event()
        self._pause = every
        self._told: bool | None = None
        self._heard: set[tuple[str, str]] = set()
        self._over = False
        # Its own: Python's is the script's.
        self._random = random.Random()  # noqa: S311 # no secret
        self._thread = threading.Thread(target=self._watch, name="keepfit-watcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end. It may be inside a request for two seconds more, and is not waited for."""
        self._stopped.set()

    def poll(self) -> None:
        """Ask once for everything, and act on it."""
        try:
            said = self._source.ask()
        except SourceUnavailable as error:
            self._pause = min(MAX_POLL_SECONDS, self._pause * 2)
            self._tell(answers=False, reason=str(error))
            return
        self._pause = self._every
        self._tell(answers=True)
        self._heard &= {(one.path, one.text) for one in said}
        for one in said:
            if not self._over:
                self._hear(one)

    def _hear(self, said: SourceMessage) -> None:
        known = (said.path, said.text) in self._heard
        self._heard.add((said.path, said.text))
        try:
            warned = self._source.understand(said, said.at or self._now())
        except (ValueError, KeyError, TypeError) as error:
            if not known:
                log.warning(
                    names.NOTICE_UNREADABLE, source=said.path, text=said.text, reason=repr(error)
                )
                self._session.request_save()
            return
        if warned is None or (known and not warned.leaves):
            return
        notice = self._reaction.to(warned, time.monotonic())
        self._over = warned.leaves
        reaction = "save at the next batch and go on"
        if notice.training_allowed and warned.leaves:
            reaction = "save at the next batch, train on, and save again shortly before leaving"
        elif warned.leaves:
            reaction = "save at the next batch and leave"
        if warned.leaves:
            self._session.give_notice(notice)
        if notice.training_allowed or not warned.leaves:
            self._session.request_save()
        log.info(names.NOTICE, source=warned.source, seconds=warned.seconds, reaction=reaction)

    def _tell(self, *, answers: bool, reason: str | None = None) -> None:
        """Once at the start, and whenever it changes."""
        if answers == self._told:
            return
        self._told = answers
        if answers:
            log.info(names.MACHINE_WATCHED, **self._source.describe())
        else:
            log.info(
                names.MACHINE_NOT_WATCHED,
                **self._source.describe(),
                reason=reason,
                effect="a notice from there will not be heard; signals will",
            )

    def _watch(self) -> None:
        while not self._stopped.is_set() and not self._over:
            self.poll()
            self._stopped.wait(self._pause * self._random.uniform(0.8, 1.2))


@contextmanager
def watch_machine(
    session: Session, settings: NoticeSettings, environment: Mapping[str, str]
) -> Iterator[None]:
    """Have the machine watched until the block ends, and what else the settings name."""
    reaction = ReactionPolicy(
        training_allowed=settings.on_notice == OnNotice.TRAIN_ON,
        hold_until_deadline=settings.hold_until_deadline(environment),
    )
    sources: list[NoticeSource | None] = [InstanceMetadata.from_environment(environment)]
    if settings.watch:
        sources.append(custom.custom_source(settings.watch, settings.grace_seconds))
    with ExitStack() as stack:
        for source in filter(None, sources):
            watcher = NoticeWatcher(source, session, reaction)
            watcher.start()
            stack.callback(watcher.stop)
        yield
