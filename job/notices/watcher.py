"""The thread that asks the metadata service, and tells the session what it hears."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

import structlog

from callbacks import events as names
from callbacks.session import Notice, Session
from job.notices import events
from job.notices.imds import Imds, NoAnswer

log = structlog.get_logger("keepfit")

EVERY = 5.0
"""Seconds between two polls, as AWS recommends."""

SELDOM = 60.0
"""Seconds at most between two polls where nothing answers."""


class Watcher:
    """Polls until it is stopped, or until the machine's end is known."""

    def __init__(
        self,
        imds: Imds,
        session: Session,
        *,
        every: float = EVERY,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._imds = imds
        self._session = session
        self._every = every
        self._now = now
        self._stopped = threading.Event()
        self._pause = every
        self._told: bool | None = None
        self._heard: set[str] = set()
        self._thread = threading.Thread(target=self._watch, name="keepfit-imds", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end. It may be inside a request for two seconds more, and is not waited for."""
        self._stopped.set()

    def poll(self) -> None:
        """Ask once for everything, and act on it."""
        try:
            said = {path: self._imds.get(path) for path in events.WATCHED}
        except NoAnswer as error:
            self._pause = min(SELDOM, self._pause * 2)
            self._tell(answers=False, reason=str(error))
            return
        self._pause = self._every
        self._tell(answers=True)
        for path, text in said.items():
            if text is not None:
                self._hear(path, text)

    def _hear(self, path: str, text: str) -> None:
        try:
            warned = events.read(path, text, self._now())
        except (ValueError, KeyError, TypeError) as error:
            if text not in self._heard:
                log.warning(names.NOTICE_UNREADABLE, source=path, text=text, reason=repr(error))
                self._session.ask_for_save()
            self._heard.add(text)
            return
        if warned is None or (warned.source in self._heard and not warned.leaves):
            return
        if warned.leaves and self._session.notice:
            return
        self._heard.add(warned.source)
        if warned.leaves:
            seconds = warned.seconds
            deadline = None if seconds is None else time.monotonic() + seconds
            self._session.give_notice(Notice(warned.source, deadline))
            reaction = "save at the next batch and leave"
        else:
            self._session.ask_for_save()
            reaction = "save at the next batch and go on"
        log.info(names.NOTICE, source=warned.source, seconds=warned.seconds, reaction=reaction)

    def _tell(self, *, answers: bool, reason: str | None = None) -> None:
        """Once at the start, and whenever it changes."""
        if answers == self._told:
            return
        self._told = answers
        if answers:
            log.info(names.MACHINE_WATCHED, paths=list(events.WATCHED))
        else:
            log.info(names.MACHINE_SILENT, reason=reason, effect="only signals will be heard")

    def _watch(self) -> None:
        while not self._stopped.is_set() and not self._session.notice:
            self.poll()
            self._stopped.wait(self._pause * random.uniform(0.8, 1.2))  # noqa: S311 # no secret


@contextmanager
def watched(session: Session, environment: Mapping[str, str]) -> Iterator[None]:
    """Have the machine watched until the block ends, unless the environment says not to."""
    imds = Imds.from_environment(environment)
    if imds is None:
        yield
        return
    watcher = Watcher(imds, session)
    watcher.start()
    try:
        yield
    finally:
        watcher.stop()
