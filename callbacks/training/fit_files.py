"""The files of callbacks at the beginning of one `fit`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keepfit.callbacks.adapters.appended_files import AppendingFit
from keepfit.callbacks.adapters.held_callbacks import HeldCallbacks
from keepfit.callbacks.checkpoint.format.manifest import StoredFile
from keepfit.callbacks.checkpoint.read.reader import Checkpoint
from keepfit.callbacks.engine.run import Run
from keepfit.callbacks.files.file_helpers import cut_back, file_size


@dataclass(frozen=True)
class FitFiles:
    """The files of one fit's callbacks.

    Attributes:
        run: the run that keeps them.
        callbacks: all callbacks of the fit.
        index: number of the fit.
        checkpoint: the checkpoint from which it resumes, if any.
    """

    run: Run
    callbacks: HeldCallbacks
    index: int
    checkpoint: Checkpoint | None

    def follow_appended(self, is_running: Callable[[], bool]) -> None:
        """Cut files that hooks open to append to them back, when they are opened."""
        files = self.checkpoint.manifest.files if self.checkpoint else ()
        stored = {file.path: file for file in files if not file.whole}
        run, index = self.run, self.index  # the checkpoint is as large as the model

        def cut_back_to_start(path: str) -> None:
            _cut_back(run, index, path, stored.get(path))

        self.callbacks.appended.begin(
            AppendingFit(
                is_running,
                self.callbacks.may_write,
                cut_back_to_start,
                {path: file.size for path, file in stored.items()},
            )
        )


def begin_callbacks(
    files: FitFiles, is_running: Callable[[], bool], begin: Callable[[], None]
) -> None:
    """Call `on_train_begin` of the callbacks, with their files as they have to be.

    A resumed fit gets them as they were at the checkpoint, a new one as they were before it began.

    Args:
        files: the files of the fit.
        is_running: returns False once the `fit` call has ended.
        begin: calls `on_train_begin` of all callbacks, which opens files.
    """
    run, callbacks, index = files.run, files.callbacks, files.index
    callbacks.report_once(
        lambda report, former: run.owned.record_once(f"{index}-{report}", f"{index}-{former}")
    )
    files.follow_appended(is_running)
    if files.checkpoint:
        stored = files.checkpoint.manifest.files
        sizes = {file.path: file.size for file in stored if not file.whole}
        with callbacks.resuming_files(files.checkpoint.state["callbacks"], sizes):
            begin()
            # Once more: `on_train_begin` may have emptied a file that it opens itself.
            run.owned.restore_files(files.checkpoint, callbacks.may_write)
        for path in sizes.keys() & set(callbacks.appended.opened):
            cut_back(path, sizes[path])  # or it has appended to it again
        return
    baseline = run.owned.baseline(index, callbacks.baseline())
    with callbacks.starting_files(baseline):
        begin()
    run.owned.begin_files(callbacks.append_only_files())


def _cut_back(run: Run, index: int, path: str, stored: StoredFile | None) -> None:
    """Restore a file as it was at the checkpoint, or before this fit has opened it first."""
    if stored:
        run.owned.restore_stored(stored)
        size = stored.size
    else:
        run.saves.wait()  # the writer's thread changes HEAD as well
        size = run.owned.baseline(index, {path: file_size(path)})[path]
    cut_back(path, size)
