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

from callbacks import events as names
from callbacks.session import Notice, Session
from job.config import Notices, OnNotice
from job.notices import elsewhere, events
from job.notices.imds import Imds
from job.notices.source import NoAnswer, Said, Source

log = structlog.get_logger("keepfit")

EVERY = 5.0
"""Seconds between two polls, as AWS recommends."""

SELDOM = 60.0
"""Seconds at most between two polls where nothing answers."""


@dataclass(frozen=True)
class Reaction:
    """What is to follow a notice.

    Attributes:
        trains_on: a known deadline is used for training.
        stays: a Spot instance is not left before it is gone.
    """

    trains_on: bool = True
    stays: bool = False

    def to(self, warned: events.Warned, now: float) -> Notice:
        """The notice that the warning is, at this time of time.monotonic().

        A machine that should have gone by now has no deadline: nothing is to be gained by haste.
        """
        if not warned.seconds:
            return Notice(warned.source)
        return Notice(
            warned.source,
            now + warned.seconds,
            trains_on=self.trains_on and warned.known,
            stays=self.stays and warned.source.startswith(events.SPOT),
        )


class Watcher:
    """Polls one source until it is stopped, or has said that the machine goes."""

    def __init__(
        self,
        source: Source,
        session: Session,
        reaction: Reaction = Reaction(),
        *,
        every: float = EVERY,
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
        except NoAnswer as error:
            self._pause = min(SELDOM, self._pause * 2)
            self._tell(answers=False, reason=str(error))
            return
        self._pause = self._every
        self._tell(answers=True)
        self._heard &= {(one.path, one.text) for one in said}
        for one in said:
            if not self._over:
                self._hear(one)

    def _hear(self, said: Said) -> None:
        known = (said.path, said.text) in self._heard
        self._heard.add((said.path, said.text))
        try:
            warned = self._source.understand(said, said.at or self._now())
        except (ValueError, KeyError, TypeError) as error:
            if not known:
                log.warning(
                    names.NOTICE_UNREADABLE, source=said.path, text=said.text, reason=repr(error)
                )
                self._session.ask_for_save()
            return
        if warned is None or (known and not warned.leaves):
            return
        notice = self._reaction.to(warned, time.monotonic())
        self._over = warned.leaves
        reaction = "save at the next batch and go on"
        if notice.trains_on and warned.leaves:
            reaction = "save at the next batch, train on, and save again shortly before leaving"
        elif warned.leaves:
            reaction = "save at the next batch and leave"
        if warned.leaves:
            self._session.give_notice(notice)
        if notice.trains_on or not warned.leaves:
            self._session.ask_for_save()
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
                names.MACHINE_SILENT,
                **self._source.describe(),
                reason=reason,
                effect="a notice from there will not be heard; signals will",
            )

    def _watch(self) -> None:
        while not self._stopped.is_set() and not self._over:
            self.poll()
            self._stopped.wait(self._pause * self._random.uniform(0.8, 1.2))


@contextmanager
def watched(session: Session, settings: Notices, environment: Mapping[str, str]) -> Iterator[None]:
    """Have the machine watched until the block ends, and what else the settings name."""
    reaction = Reaction(
        trains_on=settings.on_notice == OnNotice.TRAIN_ON, stays=settings.stays(environment)
    )
    sources: list[Source | None] = [Imds.from_environment(environment)]
    if settings.watch:
        sources.append(elsewhere.source(settings.watch, settings.grace_seconds))
    with ExitStack() as stack:
        for source in filter(None, sources):
            watcher = Watcher(source, session, reaction)
            watcher.start()
            stack.callback(watcher.stop)
        yield
