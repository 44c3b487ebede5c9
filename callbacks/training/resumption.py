"""The return of one `fit` to the checkpoint from which it resumes."""

from __future__ import annotations

from typing import Any

import keras

from keepfit.callbacks import events
from keepfit.callbacks.adapters.held_callbacks import HeldCallbacks
from keepfit.callbacks.checkpoint.read.reader import Checkpoint
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.training import internals, random_state, restore
from keepfit.callbacks.training.capture import TrainingCapture
from keepfit.callbacks.training.data.fit_inputs import FitInputs
from keepfit.callbacks.training.data.py_dataset import PyDatasetState
from keepfit.callbacks.training.data.tracker import DataTracker
from keepfit.callbacks.training.step_function import Logs

log = get_logger()


class Resumption:
    """A checkpoint that is restored in steps, and released as soon as nothing needs it.

    Its arrays are as large as the model.

    Attributes:
        key: key of its manifest; empty if there is none.
    """

    def __init__(
        self,
        model: keras.Model,
        callbacks: HeldCallbacks,
        capture: TrainingCapture,
        data: DataTracker,
        py_dataset: PyDatasetState,
        inputs: FitInputs,
        checkpoint: Checkpoint | None,
    ) -> None:
        self._model = model
        self._callbacks = callbacks
        self._capture = capture
        self._data = data
        self._py_dataset = py_dataset
        self._inputs = inputs
        self._held = checkpoint
        self.key = checkpoint.key if checkpoint else ""
        self._random_state: dict[str, Any] = {}
        self._stop_training = False

    def of(self, checkpoint: Checkpoint) -> Resumption:
        """Return the return of the same fit to another checkpoint."""
        return Resumption(
            self._model,
            self._callbacks,
            self._capture,
            self._data,
            self._py_dataset,
            self._inputs,
            checkpoint,
        )

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint, until it is released.

        Raises:
            RuntimeError: there is none, or it has been released.
        """
        if self._held is None:
            raise RuntimeError("there is no checkpoint to restore")
        return self._held

    def restore(self) -> Logs:
        """Restore everything but the data and the random state; return the last batch logs.

        By then Keras has reset the callbacks and the metrics.
        """
        checkpoint, position = self.checkpoint, self.checkpoint.manifest.position
        self._capture.continue_from(checkpoint.state["element_spec"])
        restore.restore_training(self._model, self._callbacks, checkpoint)
        self._random_state = checkpoint.state["randomness"]
        self._stop_training = checkpoint.state["stop_training"]
        self._inputs.restore(checkpoint.state.get("inputs"))
        self._py_dataset.restore(checkpoint.state["source"])
        log.info(
            events.RESUMED,
            epoch=position.epoch + 1,
            batch=position.batch,
            step=position.step,
            checkpoint=checkpoint.key,
        )
        logs: Logs = checkpoint.state["logs"]
        return logs

    def restore_data(self, calls: int) -> None:
        """Advance the new iterator to the checkpoint's position, and release the checkpoint.

        Args:
            calls: calls of the train function in this epoch.

        Raises:
            Refused: the data differs from the checkpoint's.
        """
        steps = self._model.steps_per_execution
        restore.restore_data(self._data, self.checkpoint, calls, steps)
        self._held = None

    def restore_random_state(self) -> None:
        """Restore the random state: the epoch is new, and its callbacks run next."""
        random_state.restore_random_state(self._random_state)

    def end_replay(self) -> None:
        """Restore what the hooks of the interrupted epoch have left: the next batch is new."""
        self.restore_random_state()
        self._py_dataset.batch_ends()
        self._inputs.batch_ends()
        self._model.stop_training = self._stop_training

    def restore_final(self) -> bool:
        """Restore the final state of a finished fit; return whether its variables were kept."""
        checkpoint = self.checkpoint
        internals.set_initial_epoch(self._model, None)
        self._inputs.restore(checkpoint.state.get("inputs"))
        self._py_dataset.restore(checkpoint.state["source"])
        restore.restore_finished(self._model, self._callbacks, checkpoint)
        return checkpoint.manifest.has_variables
