"""The files of the held callbacks when a `fit` begins: as at the checkpoint, or as before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keepfit.callbacks.adapters import held_callbacks
from keepfit.callbacks.adapters.base import HeldCallback
from keepfit.callbacks.checkpoint.reader import Checkpoint
from keepfit.callbacks.run import Run


def begin_callbacks_with_files(
    run: Run,
    callbacks: Sequence[HeldCallback],
    fit: int,
    resume: Checkpoint | None,
    begin_callbacks: Callable[[], None],
) -> None:
    """Call the callbacks' `on_train_begin`, which opens files.

    Args:
        fit: its index in the script.
        begin_callbacks: calls them.
    """
    held_callbacks.report_once(callbacks, lambda report: run.record_once(f"{fit}-{report}"))
    if resume:
        sizes = {log.path: log.size for log in resume.manifest.files if not log.whole}
        with held_callbacks.resuming_files(callbacks, resume.state["callbacks"], sizes):
            begin_callbacks()
            restore_files(run, callbacks, resume)
        return
    first = run.baseline(fit, held_callbacks.baseline(callbacks))
    with held_callbacks.starting_files(callbacks, first):
        begin_callbacks()
    run.begin_files(held_callbacks.append_only_files(callbacks))


def restore_files(run: Run, callbacks: Sequence[HeldCallback], checkpoint: Checkpoint) -> None:
    """Also after `on_train_begin`, which may have emptied a file that it opens itself."""
    run.restore_files(checkpoint, lambda path: held_callbacks.may_write(callbacks, path))
