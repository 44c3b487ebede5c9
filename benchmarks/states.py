"""The model sizes that are measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class State:
    """The whole state of a model: its weights, and Adam's two slots of each trained weight.

    Attributes:
        name: shown in the tables.
        width, layers: width and number of the dense layers, which have no biases.
        frozen: number of layers that are not trained.
    """

    name: str
    width: int
    layers: int = 6
    frozen: int = 0

    @property
    def mib(self) -> float:
        """The size in MiB, in float32."""
        slots = 3 * self.layers - 2 * self.frozen
        return 4 * slots * self.width**2 / 2**20


MAIN = State("288 MiB", 2048)
