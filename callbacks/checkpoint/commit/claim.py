"""Claiming a run: taking ownership of an existing one, starting a new one, or moving one aside."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from tenacity import retry, retry_if_exception_type, stop_after_attempt

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.commit.attempt import Attempt
from keepfit.callbacks.checkpoint.commit.cleanup import InlineCleanup
from keepfit.callbacks.checkpoint.format.head import ENDED, AttemptHistory, Head, ScriptRecord
from keepfit.callbacks.checkpoint.format.keys import (
    head_key,
    journal_attempt,
    journals_prefix,
    newest_attempt,
)
from keepfit.callbacks.checkpoint.format.limits import MAX_NUMBER
from keepfit.callbacks.checkpoint.read.documents import (
    LoadedHead,
    LoadedManifests,
    NoUsableCheckpoint,
    read_head,
    read_manifests,
)
from keepfit.callbacks.checkpoint.retention import Retention
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.storage.base import (
    AlreadyExists,
    Conflict,
    Replacement,
    StorageError,
    Store,
    Transient,
    Version,
)

log = get_logger()


MAX_CONFLICTS = 10
"""Number of claims in a row that other processes may overtake before the last one fails."""

MAX_FINDS = 10
"""Number of looks at a run whose HEAD appears or changes while it is being recovered."""


@dataclass(frozen=True)
class FoundRun:
    """A run as it is before a claim.

    Attributes:
        head: HEAD, rebuilt from the manifests if it is missing or damaged; None for a new run.
        version: the version of HEAD in the store; None if it is missing.
    """

    head: Head | None
    version: Version | None


def find_run(store: Store, run: str, *, after: int = 0) -> FoundRun:
    """Look at a run without changing it.

    Args:
        after: number of the last attempt of a run of this name that was moved aside; 0 if none was.
            The objects that it has written since, without a HEAD, are no checkpoints of the new
            run.

    Raises:
        NoUsableCheckpoint: HEAD is damaged or missing, and no checkpoint is left to continue from.
        StorageError: the store can't be read, or HEAD changed while it was being recovered, each
            time.
    """
    for _ in range(MAX_FINDS):
        loaded = read_head(store, run)
        if after > 0 and loaded.version is None:
            return FoundRun(None, None)
        if loaded.head:
            return FoundRun(loaded.head, loaded.version)
        objects = _list_objects(store, run)
        # Other processes may have claimed the run and committed before its objects were listed.
        if read_head(store, run).version == loaded.version:
            return FoundRun(_recover_head(store, run, objects, loaded), loaded.version)
    raise Transient(f"{store.uri}/{head_key(run)} changed {MAX_FINDS} times while it was recovered")


def claim(
    store: Store,
    run: str,
    found: FoundRun,
    *,
    retention: Retention,
    versions: Mapping[str, str],
    after: int = 0,
    cleanup: InlineCleanup | None = None,
    script: ScriptRecord | None = None,
) -> Attempt:
    """Take ownership of the run that was found, or start it.

    Args:
        after: as for find_run. The new run's attempt numbers continue from it, because a process of
            the old run may still be alive: it must not find keys with its own attempt number in the
            new run.
        cleanup: does the work that is not part of a commit; at once if None.
        script: the script of this process; None to leave the one that HEAD records.

    Raises:
        Conflict: HEAD has changed since the run was found.
        StorageError: the store can't be read or written.
    """
    old = found.head
    newest = max(old.attempt if old else 0, after)
    if newest >= MAX_NUMBER:
        raise StorageError(
            f"{store.uri}/{head_key(run)} counts {newest} attempts, and no more are possible; "
            f"start over with --fresh or another --run NAME"
        )
    head = Head(
        run=run,
        attempt=newest + 1,
        writer=uuid.uuid4().hex,
        swaps=old.next_swaps if old else 0,
        checkpoints=old.checkpoints if old else (),
        finished=old.finished if old else {},
        baseline=old.baseline if old else {},
        history=old.history.for_next_attempt() if old else AttemptHistory(),
        fits=old.fits if old else {},
        continuations=old.continuations if old else {},
        script=script or (old.script if old else None),
    )
    # Read before the swap: if it succeeds, HEAD named them all the time, and none was pruned.
    manifests = read_manifests(store, run, head.manifests()).manifests
    version = store.swap(head_key(run), head.to_bytes(), expected=found.version)
    return Attempt(store, head, version, manifests, retention, versions, cleanup)


@retry(
    retry=retry_if_exception_type(Conflict), stop=stop_after_attempt(MAX_CONFLICTS), reraise=True
)
def claim_run(
    store: Store,
    run: str,
    *,
    retention: Retention,
    versions: Mapping[str, str],
    after: int = 0,
) -> Attempt:
    """Find and claim a run; begin again if another process claims it in between.

    Raises:
        NoUsableCheckpoint: HEAD is damaged or missing, and no checkpoint is left to continue from.
        Conflict: another process was faster ten times in a row.
        StorageError: the store can't be read or written.
    """
    found = find_run(store, run, after=after)
    return claim(store, run, found, retention=retention, versions=versions, after=after)


@dataclass(frozen=True)
class MovedRun:
    """A run that was moved aside: its new name, and the number of its last attempt."""

    name: str
    attempt: int


def move_aside(store: Store, run: str, now: datetime) -> MovedRun | None:
    """Move the whole run to a dated name, so that a new run of this name can start.

    An attempt of it that is still alive is fenced first: it must not prune objects while they are
    being copied. When the copy is complete, HEAD is swapped for one without checkpoints, unless
    another attempt has claimed the run meanwhile: then it is fenced and moved again. So no other
    attempt ever resumes what is then deleted.

    Args:
        now: the time that the new name contains, UTC; each further try adds a second.

    Returns:
        The moved run; None if there was nothing to move.

    Raises:
        Conflict: another process claimed the run meanwhile, ten times in a row.
        AlreadyExists: there are runs of all these names already.
        StorageError: the store can't be read or written.
    """
    if next(store.list(f"{run}/"), None) is None:
        return None

    @retry(
        retry=retry_if_exception_type((Conflict, AlreadyExists)),  # or a run of that name is there
        stop=stop_after_attempt(MAX_CONFLICTS),
        reraise=True,
    )
    def fence_and_move() -> MovedRun:
        nonlocal now
        fence, version = _fence(store, run)
        aside = MovedRun(f"{run}.{now:%Y%m%dT%H%M%S}Z", fence.attempt)
        now += timedelta(seconds=1)
        empty = Head(run=run, attempt=fence.attempt, writer=fence.writer, swaps=fence.next_swaps)
        store.move(run, aside.name, replace=Replacement(head_key(run), empty.to_bytes(), version))
        return aside

    return fence_and_move()


def _fence(store: Store, run: str) -> tuple[Head, Version | None]:
    """Claim HEAD, if it can be read, so that no other attempt can commit to the run any more.

    Returns:
        HEAD, which names the run's last attempt, and its version in the store.

    Raises:
        Conflict: HEAD has changed meanwhile.
    """
    loaded = read_head(store, run)
    if loaded.head is None:
        newest = newest_attempt(run, (entry.key for entry in store.list(f"{run}/")))
        unknown = Head(run=run, attempt=max(1, newest), writer=uuid.uuid4().hex, swaps=0)
        return unknown, loaded.version
    old = loaded.head
    attempt = min(old.attempt + 1, MAX_NUMBER)
    changes = {
        "attempt": attempt,
        "writer": uuid.uuid4().hex,
        "swaps": old.next_swaps,
        # If the move is interrupted, --fresh moves what is left of the run as well.
        "baseline": {**old.baseline, ENDED: attempt},
    }
    head = old.model_copy(update=changes)
    return head, store.swap(head_key(run), head.to_bytes(), expected=loaded.version)


@dataclass(frozen=True)
class _Objects:
    """The objects of a run, as far as they tell what its HEAD was.

    Attributes:
        keys: keys of the manifests and shards, readable or not.
        loaded: the manifests.
    """

    keys: tuple[str, ...]
    loaded: LoadedManifests


def _list_objects(store: Store, run: str) -> _Objects:
    manifests = [entry.key for entry in store.list(f"{run}/checkpoints/")]
    loaded = read_manifests(store, run, manifests)
    shards = [entry.key for entry in store.list(f"{run}/shards/")]
    return _Objects((*manifests, *shards), loaded)


def _newest_journal(store: Store, run: str) -> int:
    """Return the number of the newest attempt with a journal; it may have saved nothing else."""
    keys = (entry.key for entry in store.list(journals_prefix(run)))
    return max((journal_attempt(run, key) or 0 for key in keys), default=0)


def _recover_head(store: Store, run: str, objects: _Objects, head: LoadedHead) -> Head | None:
    """Rebuild HEAD from the objects, and log it.

    Args:
        head: the missing or damaged HEAD.

    Returns:
        The rebuilt HEAD; None if the run has not been started.

    Raises:
        NoUsableCheckpoint: the run has objects, but no readable manifest.
    """
    missing = head.version is None
    if missing and not objects.keys:
        return None
    for key, reason in objects.loaded.problems.items():
        log.error(events.CHECKPOINT_REJECTED, checkpoint=key, reason=reason)
    problem = f"{store.uri}/{head_key(run)} is {'missing' if missing else 'damaged'}"
    manifests = objects.loaded.manifests
    if not manifests:
        raise NoUsableCheckpoint(
            f"{problem}, and run {run!r} has no manifest to continue from; start over with "
            f"--fresh, which moves the old run aside, or restore the missing objects"
        )
    newest = sorted(
        manifests, key=lambda k: (manifests[k].attempt, manifests[k].sequence), reverse=True
    )
    log.error(events.HEAD_DAMAGED, reason=problem, using=newest[0])
    return Head(
        run=run,
        attempt=max(newest_attempt(run, objects.keys), _newest_journal(store, run), 1),
        writer="recovered",
        swaps=0,
        checkpoints=tuple(newest),
        finished={
            manifests[k].position.fit: k for k in reversed(newest) if manifests[k].position.finished
        },
        fits={
            manifests[k].position.fit: record
            for k in reversed(newest)
            if (record := manifests[k].fit_record)
        },
    )
