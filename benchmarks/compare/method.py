"""What a way to keep a training has to do here, so that all are measured alike."""

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
"""Is given the number of the batch within the whole job, from 0."""


@dataclass(frozen=True)
class Place:
    """Where checkpoints go.

    Attributes:
        folder: on this machine, empty at first.
        url: in S3.
        ways: how a peer's folder gets to S3; the save of number i goes ways[i % len(ways)].
    """

    folder: Path
    url: str
    ways: tuple[Way, ...] = ()

    def of(self, number: int) -> str:
        """Where a peer's save of that number is in S3."""
        return f"{self.url}/{number}"


Done = tuple[keras.Model, dict[str, list[float]] | None]
"""A trained model, and its history if there is one."""


@dataclass(frozen=True)
class Job:
    """A training with an end: so many epochs of so many batches, and a save every so many."""

    epochs: int
    steps: int
    every: int


class Method(Protocol):
    """Keeps a training."""

    def watched(self, place: Place) -> tuple[Callable[[int], Durable], Callable[[int], str]]:
        """When a save is durable, and how it gets there; as Watch asks for them."""

    def train(self, training: Training, place: Place, watch: Watch) -> None:
        """Train, with saves where the watch wants them, until it has seen enough."""

    def resume(self, make: Callable[[], Training], place: Place, saves: int, then: OnBatch) -> None:
        """Go on from the last of the saves on an empty machine; call `then` after each batch."""

    def complete(self, make: Callable[[], Training], folder: Path, job: Job, then: OnBatch) -> Done:
        """Train to the end, from what is in the folder if anything is."""
