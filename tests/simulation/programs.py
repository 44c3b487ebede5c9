"""The programs of the actors: what processes of keepfit do with a run, in its own order."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import typer

from keepfit.callbacks.checkpoint.commit.attempt import Attempt
from keepfit.callbacks.checkpoint.commit.claim import claim_run
from keepfit.callbacks.checkpoint.format.dtypes import NUMPY_DTYPES
from keepfit.callbacks.checkpoint.format.keys import manifest_key
from keepfit.callbacks.checkpoint.format.position import Position
from keepfit.callbacks.checkpoint.read import inspection
from keepfit.callbacks.checkpoint.read.documents import NoUsableCheckpoint
from keepfit.callbacks.checkpoint.read.reader import Checkpoint, read_newest_usable
from keepfit.callbacks.checkpoint.retention import KeepNewest
from keepfit.callbacks.checkpoint.snapshot import Snapshot, Tensor, array_bytes
from keepfit.callbacks.engine import fresh_start
from keepfit.callbacks.settings import Settings
from keepfit.callbacks.storage.base import StorageError
from keepfit.job.commands import stores
from tests.simulation.actor import Client, Journal, Program

RUN = "run"

FROZEN = np.arange(16, dtype=np.int32)
"""Weights that never change: each checkpoint of a run shares their shard, as far as it may."""


def snapshot(step: int, *, finished: bool = False) -> Snapshot:
    """Return a small snapshot: one shard that is shared, and one of its own."""
    arrays = {"frozen/table": FROZEN, "model/kernel": np.asarray([step], np.int32)}
    tensors = [
        Tensor(
            name,
            "frozen" if name.startswith("frozen") else "model",
            NUMPY_DTYPES[array.dtype.name],
            array.shape,
            lambda array=array: array_bytes(array),
        )
        for name, array in arrays.items()
    ]
    return Snapshot(Position(step=step, finished=finished), tensors, {"step": step})


def training(
    *,
    commits: int = 1,
    sweeps: bool = False,
    sweeps_at_once: bool = False,
    finishes: bool = False,
    keep: int = 1,
) -> Program:
    """Return the program of an attempt: claim, resume, then commit as often as is said.

    Args:
        sweeps: it sweeps after its first commit, as engine/run.py does.
        sweeps_at_once: it sweeps right after the claim, as Attempt allows.
        finishes: the last commit is the final state of the fit.
    """

    def program(client: Client, journal: Journal) -> None:
        attempt = claim_run(client, RUN, retention=KeepNewest(keep), versions={})
        if sweeps_at_once:
            attempt.sweep()
        train(client, journal, attempt, commits, sweeps=sweeps, finishes=finishes)

    return program


def fresh_training(*, commits: int = 1) -> Program:
    """Return the program of an attempt that was started with --fresh."""
    settings = Settings(store="file:///unused", run=RUN, fresh=True, keep=1)

    def program(client: Client, journal: Journal) -> None:
        moved = fresh_start.move_aside_if_asked(client, settings, None)
        after = moved.attempt if moved else 0
        attempt = claim_run(
            client, RUN, retention=KeepNewest(settings.keep), versions={}, after=after
        )
        fresh_start.record_start(attempt)
        train(client, journal, attempt, commits)

    return program


def train(
    client: Client,
    journal: Journal,
    attempt: Attempt,
    commits: int,
    *,
    sweeps: bool = False,
    finishes: bool = False,
) -> None:
    """Resume and commit with a claimed attempt; a save that fails is followed by the next one."""
    journal.add("claimed", attempt=attempt.number)
    found = newest_checkpoint(client, attempt)
    if found:
        attempt.resume_from(found.key, found.manifest)
    journal.add("resumed", found.key if found else "", attempt.number)
    step = found.manifest.position.step if found else 0
    for left in reversed(range(commits)):
        step += 1
        final = finishes and not left
        with contextlib.suppress(StorageError):  # as the writer does; Superseded ends the program
            done = attempt.commit(snapshot(step, finished=final)).manifest
            key = manifest_key(RUN, step, done.attempt, done.sequence)
            journal.add("acknowledged", key, attempt.number)
            if sweeps:
                sweeps = False
                attempt.begin_sweep()


def newest_checkpoint(client: Client, attempt: Attempt) -> Checkpoint | None:
    """Read the newest checkpoint, as Ownership.read_checkpoint does."""
    try:
        return read_newest_usable(client, RUN, attempt.head.checkpoints, fit=0)
    except NoUsableCheckpoint:
        attempt.check()
        raise


def reading(client: Client, journal: Journal) -> None:
    """Verify every byte of the run, as `keepfit verify` does; note the problems that it names."""
    for check in inspection.verify(client, RUN):
        if check.problem:
            journal.add("problem", check.key)


def summarizing(client: Client, journal: Journal) -> None:
    """Summarize the run, as `keepfit ls` does; note a state in which it is not usable."""
    with contextlib.suppress(inspection.NoSuchRun):
        summary = inspection.summarize(client, RUN)
        if summary.state == "damaged":
            journal.add("problem", summary.reason or "")


def pruning(client: Client, journal: Journal) -> None:
    """Run `keepfit prune`; an exit code that is not 0 is one of its defined ends."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(typer.Exit):
        stores.prune(RUN, store="sim://store", yes=True)
