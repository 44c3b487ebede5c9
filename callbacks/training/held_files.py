"""The files of the held callbacks when a `fit` begins: as at the checkpoint, or as before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from callbacks import state
from callbacks.checkpoint.reader import Checkpoint
from callbacks.run import Run


def begin(
    run: Run,
    callbacks: Sequence[state.Held],
    fit: int,
    resume: Checkpoint | None,
    begin_callbacks: Callable[[], None],
) -> None:
    """Call the callbacks' `on_train_begin`, which opens files.

    Args:
        fit: its index in the script.
        begin_callbacks: calls them.
    """
    state.report_once(callbacks, lambda report: run.first_time(f"{fit}-{report}"))
    if resume:
        sizes = {log.path: log.size for log in resume.manifest.logs if not log.whole}
        with state.reopening(callbacks, resume.state["callbacks"], sizes):
            begin_callbacks()
            bring_back(run, callbacks, resume)
        return
    first = run.origin(fit, state.first(callbacks))
    with state.beginning(callbacks, first):
        begin_callbacks()
    run.begin_logs(state.logs(callbacks))


def bring_back(run: Run, callbacks: Sequence[state.Held], checkpoint: Checkpoint) -> None:
    """Also after `on_train_begin`, which may have emptied a file that it opens itself."""
    run.bring_back_files(checkpoint, lambda path: state.may_write(callbacks, path))
