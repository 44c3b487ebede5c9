"""How a process comes to own a run: taking it over, beginning it, or setting it aside."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import structlog
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.attempt import Attempt
from keepfit.callbacks.checkpoint.manifest import AttemptHistory, Head, attempt_of, head_key
from keepfit.callbacks.checkpoint.reader import NoUsableCheckpoint, read_head, read_manifests
from keepfit.callbacks.checkpoint.retention import Retention
from keepfit.callbacks.storage.base import Conflict, Store

log = structlog.get_logger("keepfit")


@retry(retry=retry_if_exception_type(Conflict), stop=stop_after_attempt(10), reraise=True)
def claim_run(
    store: Store,
    run: str,
    *,
    retention: Retention,
    versions: Mapping[str, str],
    after: int = 0,
) -> Attempt:
    """Take the run over, or begin it.

    Args:
        after: the last attempt of a run of this name that was set aside. A process of that run
            that is still alive must not find names of its own in the new one; what it has written
            here since, without a HEAD, is no checkpoint of the new one.

    Raises:
        NoneLeft: HEAD is damaged or missing, and no checkpoint is left to go on from.
        Conflict: ten times in a row another process was faster.
        StorageError: the store can't be read or written.
    """
    found = read_head(store, run)
    begun_anew = after > 0 and found.version is None
    old = found.head
    if old is None and not begun_anew:
        old = _recover(store, run, missing=found.version is None)
    head = Head(
        run=run,
        attempt=(old.attempt if old else after) + 1,
        writer=uuid.uuid4().hex,
        swaps=old.swaps + 1 if old else 0,
        checkpoints=old.checkpoints if old else (),
        finished=old.finished if old else {},
        baseline=old.baseline if old else {},
        history=old.history.of_next() if old else AttemptHistory(),
    )
    version = store.swap(head_key(run), head.to_bytes(), expected=found.version)
    return Attempt(store, head, version, retention, versions)


@dataclass(frozen=True)
class MovedRun:
    """A run that was moved: its new name, and the number of its last attempt."""

    name: str
    attempt: int


def move_aside(store: Store, run: str, now: datetime) -> MovedRun | None:
    """Move the whole run to a dated name, so that it can be begun again.

    Its attempt that is still alive is fenced off first: it must not prune what is being moved.

    Returns:
        None if there was nothing to move.
    """
    if next(store.list(f"{run}/"), None) is None:
        return None
    aside = MovedRun(f"{run}.{now:%Y%m%dT%H%M%S}Z", _fence(store, run))
    store.move(run, aside.name)
    return aside


@retry(retry=retry_if_exception_type(Conflict), stop=stop_after_attempt(10), reraise=True)
def _fence(store: Store, run: str) -> int:
    """Take HEAD away from whoever has it, if it can be read. Returns the last attempt's number."""
    found = read_head(store, run)
    if found.head is None:
        return max((attempt_of(entry.key) or 0 for entry in store.list(f"{run}/")), default=0)
    old = found.head
    changes = {"attempt": old.attempt + 1, "writer": uuid.uuid4().hex, "swaps": old.swaps + 1}
    head = old.model_copy(update=changes)
    store.swap(head_key(run), head.to_bytes(), expected=found.version)
    return head.attempt


def _recover(store: Store, run: str, *, missing: bool) -> Head | None:
    """What HEAD must have said, by the manifests that are there; None for a run not yet begun."""
    keys = [entry.key for entry in store.list(f"{run}/checkpoints/")]
    manifests = read_manifests(store, run, keys, report=True)
    shards = [entry.key for entry in store.list(f"{run}/shards/")]
    if missing and not keys and not shards:
        return None
    problem = f"{store.uri}/{head_key(run)} is {'missing' if missing else 'damaged'}"
    if not manifests:
        raise NoUsableCheckpoint(
            f"{problem}, and run {run!r} has no manifest to go on from; begin again with "
            f"--fresh, which moves the old run aside, or put back what is missing"
        )
    newest = sorted(
        manifests, key=lambda k: (manifests[k].attempt, manifests[k].sequence), reverse=True
    )
    log.error(events.HEAD_DAMAGED, reason=problem, using=newest[0])
    return Head(
        run=run,
        attempt=max((attempt_of(key) or 0 for key in (*keys, *shards)), default=0),
        writer="recovered",
        swaps=0,
        checkpoints=tuple(newest),
        finished={
            manifests[k].position.fit: k for k in reversed(newest) if manifests[k].position.finished
        },
    )
