"""The interface of the methods that are compared, so that all are measured alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import keras

from compare.uploads import Way
from compare.watch import Durable, Watch
from models import Training

ENDLESS = 10**9

OnBatch = Callable[[int], None]
"""Called with the number of the batch within the whole job, from 0."""


@dataclass(frozen=True)
class Place:
    """The place where checkpoints are stored.

    Attributes:
        folder: a folder on this machine, empty at first.
        url: S3 URL.
        ways: how a peer's folder is copied to S3; save number i uses ways[i % len(ways)].
    """

    folder: Path
    url: str
    ways: tuple[Way, ...] = ()

    def save_url(self, number: int) -> str:
        """Return the S3 URL of a peer's save of that number."""
        return f"{self.url}/{number}"


Result = tuple[keras.Model, dict[str, list[float]] | None]
"""A trained model, and its history if there is one."""


@dataclass(frozen=True)
class Job:
    """A training of fixed length.

    Attributes:
        epochs: number of epochs.
        steps: number of batches per epoch.
        every: number of batches between two saves.
    """

    epochs: int
    steps: int
    every: int


class Method(Protocol):
    """A method to save and resume a training."""

    def watched(self, place: Place) -> tuple[Callable[[int], Durable], Callable[[int], str]]:
        """Return the functions that Watch takes as `durable` and `way`."""

    def train(self, training: Training, place: Place, watch: Watch) -> None:
        """Train, with saves where the watch requests them, until it raises Enough."""

    def resume(
        self, make_training: Callable[[], Training], place: Place, saves: int, on_batch: OnBatch
    ) -> None:
        """Resume from the last save, with an empty folder; call `on_batch` after each batch."""

    def complete(
        self, make_training: Callable[[], Training], folder: Path, job: Job, on_batch: OnBatch
    ) -> Result:
        """Train to the end; resume from the last save in the folder if there is one."""
