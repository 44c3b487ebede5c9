"""Prepare the files of the callbacks inside Resumable when a `fit` begins.

A resumed fit gets them as they were at the checkpoint, a new one as they were before it began.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keepfit.callbacks.adapters import held_callbacks
from keepfit.callbacks.adapters.base import HeldCallback
from keepfit.callbacks.checkpoint.reader import Checkpoint
from keepfit.callbacks.engine.run import Run


def begin_callbacks_with_files(
    run: Run,
    callbacks: Sequence[HeldCallback],
    fit: int,
    resume: Checkpoint | None,
    begin_callbacks: Callable[[], None],
) -> None:
    """Call the callbacks' `on_train_begin`, which opens files.

    Args:
        fit: index of the `fit` call in the script, from 0.
        resume: the checkpoint to resume from; None for a new fit.
        begin_callbacks: calls `on_train_begin` of all callbacks.
    """
    held_callbacks.report_once(callbacks, lambda report: run.record_once(f"{fit}-{report}"))
    if resume:
        sizes = {file.path: file.size for file in resume.manifest.files if not file.whole}
        with held_callbacks.resuming_files(callbacks, resume.state["callbacks"], sizes):
            begin_callbacks()
            restore_files(run, callbacks, resume)
        return
    baseline = run.baseline(fit, held_callbacks.baseline(callbacks))
    with held_callbacks.starting_files(callbacks, baseline):
        begin_callbacks()
    run.begin_files(held_callbacks.append_only_files(callbacks))


def restore_files(run: Run, callbacks: Sequence[HeldCallback], checkpoint: Checkpoint) -> None:
    """Restore the files that the script itself names to their content at the checkpoint.

    This is repeated after `on_train_begin`, which may have emptied a file that it opens itself.
    """
    run.restore_files(checkpoint, lambda path: held_callbacks.may_write(callbacks, path))
