"""The progress of a run, as another thread sees it during a fit."""

from __future__ import annotations

from itertools import pairwise

import keras

from keepfit.callbacks.engine import session
from keepfit.callbacks.engine.run_progress import RunProgress, TrainingPosition
from tests.training.trainings import BATCHES, Training, attempt, preempted


class Observer(keras.callbacks.Callback):
    """A callback that records the progress at each hook."""

    def __init__(self):
        super().__init__()
        self.seen: list[tuple[str, RunProgress]] = []

    def get_state(self):
        """Return None: nothing is kept."""

    def record(self, hook):
        (progress,) = session.current().progress
        self.seen.append((hook, progress))

    def on_train_batch_end(self, batch, logs=None):
        self.record("batch")

    def on_test_batch_end(self, batch, logs=None):
        self.record("validation")

    def on_epoch_end(self, epoch, logs=None):
        self.record("epoch")


def test_progress(tmp_path):
    """Each batch is an event, one of a validation too; a resumed run knows where it began."""
    training = Training()
    stopped = preempted(training, tmp_path, "on_train_batch_end", BATCHES + 2)
    observer = Observer()
    attempt(training, tmp_path, observer)
    assert {progress.run for _, progress in observer.seen} == {"run"}
    assert {progress.attempt for _, progress in observer.seen} == {2}
    start = TrainingPosition(2, stopped.step)
    assert {progress.resumed_from for _, progress in observer.seen} == {start}
    first, last = observer.seen[0][1], observer.seen[-1][1]
    assert (first.position, first.has_resumed) == (start, False)  # its batch ends after the hook
    assert last.position == TrainingPosition(3, 3 * BATCHES)
    assert last.has_resumed
    events = [progress.events for _, progress in observer.seen]
    assert all(before < after for before, after in pairwise(events))
    assert "validation" in {hook for hook, _ in observer.seen}
