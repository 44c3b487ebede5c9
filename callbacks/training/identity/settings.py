"""What a fit is asked to do, beside its model: compared with a checkpoint, and stored in the next.

The descriptions are plain values in the manifest's state, so that they are compared before the run
is claimed and before any data is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import keras

from keepfit.callbacks.checkpoint.format.limits import Json
from keepfit.callbacks.checkpoint.format.manifest import Manifest
from keepfit.callbacks.checkpoint.read.reader import Checkpoint
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.training import refusal
from keepfit.callbacks.training.identity.description import InputDescription, input_differences
from keepfit.callbacks.training.identity.hyperparameters import (
    Change,
    Plain,
    changes,
    check,
    hyperparameters,
    merged,
    report,
)
from keepfit.callbacks.training.identity.inputs import FitInput

INPUT, HYPERPARAMETERS = "input", "hyperparameters"
"""Names in the manifest's state."""


@dataclass(frozen=True)
class FitSettings:
    """The input and the hyperparameters of one fit, as the script gives them."""

    input: InputDescription
    hyperparameters: dict[str, Plain]

    @classmethod
    def of(cls, model: keras.Model, given: FitInput) -> Self:
        """Return the settings of a `fit` with this input, before a restore."""
        found = hyperparameters(model, given.data.class_weight)
        return cls(InputDescription.of(given), found)

    def compare(self, key: str, manifest: Manifest, guard: ExactnessGuard) -> None:
        """Compare the settings with a checkpoint's; one of keepfit 0.1 has none.

        Args:
            key: the key of the manifest.
            guard: refuses changed hyperparameters if the training has to be exact.

        Raises:
            Refused: the inputs differ, or hyperparameters that may not; the log says how.
        """
        try:
            saved = InputDescription.of_state(manifest.state)
        except ValueError as error:
            raise refusal.refusal(key, str(error)) from None
        if saved and (lines := input_differences(saved, self.input)):
            raise refusal.refusal(key, "; ".join(lines))
        check(self._changes(manifest), guard)

    def differs(self, manifest: Manifest) -> bool:
        """Return whether hyperparameters have changed, each of which is reported by its name."""
        return bool(self._changes(manifest))

    def continuing(self, checkpoint: Checkpoint | None) -> dict[str, Json]:
        """Return what the fit's next checkpoints store; report what has changed since this one."""
        settings = self.hyperparameters
        if checkpoint:
            report(self._changes(checkpoint.manifest))
            saved = checkpoint.manifest.state.get(HYPERPARAMETERS)
            settings = merged(saved, settings)
        return {INPUT: self.input.model_dump(), HYPERPARAMETERS: settings}

    def _changes(self, manifest: Manifest) -> list[Change]:
        saved = manifest.state.get(HYPERPARAMETERS)
        return changes(saved, self.hyperparameters)
