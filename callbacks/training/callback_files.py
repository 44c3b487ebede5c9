"""Prepare the files of the callbacks inside Resumable when a `fit` begins.

A resumed fit gets them as they were at the checkpoint, a new one as they were before it began.
"""

from __future__ import annotations

from collections.abc import Callable

from keepfit.callbacks.adapters.held_callbacks import HeldCallbacks
from keepfit.callbacks.checkpoint.reader import Checkpoint
from keepfit.callbacks.engine.run import Run


def begin_callbacks_with_files(
    run: Run,
    callbacks: HeldCallbacks,
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
    callbacks.report_once(lambda report: run.record_once(f"{fit}-{report}"))
    if resume:
        sizes = {file.path: file.size for file in resume.manifest.files if not file.whole}
        with callbacks.resuming_files(resume.state["callbacks"], sizes):
            begin_callbacks()
            restore_files(run, callbacks, resume)
        return
    baseline = run.baseline(fit, callbacks.baseline())
    with callbacks.starting_files(baseline):
        begin_callbacks()
    run.begin_files(callbacks.append_only_files())


def restore_files(run: Run, callbacks: HeldCallbacks, checkpoint: Checkpoint) -> None:
    """Restore the files that the script itself names to their content at the checkpoint.

    This is repeated after `on_train_begin`, which may have emptied a file that it opens itself.
    """
    run.restore_files(checkpoint, callbacks.may_write)
