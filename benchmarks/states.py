"""The sizes of what is kept."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class State:
    """A model's whole state: weights, and Adam's two slots of those that are trained.

    Attributes:
        width, layers: of dense layers without biases, all alike.
        frozen: how many of them are not trained.
    """

    name: str
    width: int
    layers: int = 6
    frozen: int = 0

    @property
    def mib(self) -> float:
        """In float32."""
        slots = 3 * self.layers - 2 * self.frozen
        return 4 * slots * self.width**2 / 2**20


MAIN = State("288 MiB", 2048)
