"""The schema of a checkpoint's state: the part of a manifest that only its training understands.

A state that does not validate makes its checkpoint damaged, so that the one before it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from keepfit.callbacks.checkpoint.format.codec import Array
from keepfit.callbacks.checkpoint.format.manifest import Manifest


class InvalidState(ValueError):
    """The state is not one that its training could have written; the message is one line."""


class StateSchema(Protocol):
    """The schema of the states of one training."""

    def check_manifest(self, manifest: Manifest) -> None:
        """Check the part that needs no arrays, before any is read. Raises InvalidState."""

    def check_state(self, state: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Check the decoded state before any of it is restored.

        Args:
            state: the decoded values by name.
            arrays: all arrays of the checkpoint by name.

        Raises:
            InvalidState: a value is missing, or not of the type that a restore needs.
        """


class _AnyState:
    """The schema of tools that restore nothing."""

    def check_manifest(self, manifest: Manifest) -> None:
        """Accept it."""

    def check_state(self, state: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Accept it."""


ANY_STATE: StateSchema = _AnyState()
