"""`--fresh`: begin a run anew, but only once where its command is started again.

Docker, Kubernetes or a shell loop start an interrupted attempt again by the same command, `--fresh`
included. So `--fresh` continues a run that it has begun itself, if the last attempt of it was
interrupted and had the same arguments. A script that has come to its own end, or was stopped by
Ctrl-C, is begun anew.
"""

from __future__ import annotations

from datetime import UTC, datetime

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.commit.attempt import Attempt
from keepfit.callbacks.checkpoint.commit.claim import MovedRun, move_aside
from keepfit.callbacks.checkpoint.format.head import ENDED, STARTED, Head, ScriptRecord
from keepfit.callbacks.checkpoint.read.documents import read_head
from keepfit.callbacks.identity import scripts
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.settings import Settings
from keepfit.callbacks.storage.base import Store

log = get_logger()


def is_interrupted_fresh_run(head: Head) -> bool:
    """Return whether --fresh has begun this run, and its last attempt was interrupted."""
    return STARTED in head.baseline and head.baseline.get(ENDED) != head.attempt


def move_aside_if_asked(
    store: Store, settings: Settings, script: ScriptRecord | None
) -> MovedRun | None:
    """Move the run aside if `--fresh` applies; return the moved run, or None.

    Args:
        script: the script of this process, if any.

    Raises:
        StorageError: the run could not be moved.
    """
    if not settings.starts_fresh:
        return None
    head = read_head(store, settings.run).head
    if head and is_interrupted_fresh_run(head) and _accepts(head, script, settings):
        log.info(
            events.FRESH_CONTINUED,
            run=settings.run,
            attempts=head.attempt,
            reason="--fresh has begun this run, and its last attempt was interrupted",
            fix="to begin anew all the same, use another --run NAME",
        )
        return None
    moved = move_aside(store, settings.run, datetime.now(UTC))
    if moved:
        log.info(events.STARTED_AFRESH, run=settings.run, moved_to=moved.name)
    return moved


def record_start(attempt: Attempt) -> None:
    """Record that `--fresh` has begun the run, unless it is recorded already.

    Raises:
        Superseded, StorageError: see Attempt.record_baseline.
    """
    if STARTED not in attempt.head.baseline:
        attempt.record_baseline({**attempt.head.baseline, STARTED: attempt.number})


def values_at_end(head: Head) -> dict[str, int]:
    """Return the baseline value that tells that the attempt has come to its own end, if needed."""
    return {ENDED: head.attempt} if STARTED in head.baseline else {}


def _accepts(head: Head, script: ScriptRecord | None, settings: Settings) -> bool:
    """Return whether the script may continue the run: with other arguments, it is begun anew."""
    found = scripts.compare_scripts(
        head.script, script, finished=scripts.is_finished(head), resume=settings.resume
    )
    return found.verdict is not scripts.Verdict.REFUSE
