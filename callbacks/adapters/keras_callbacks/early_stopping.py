"""The adapter of EarlyStopping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keepfit.callbacks.adapters.base import AttributeAdapter, State
from keepfit.callbacks.adapters.state_types import Number, Weights
from keepfit.callbacks.checkpoint.format.limits import Count
from keepfit.callbacks.checkpoint.format.state_schema import InvalidState


@dataclass(frozen=True)
class EarlyStoppingAdapter(AttributeAdapter):
    """Adapter for EarlyStopping, whose best weights have to fit the model."""

    def check_against(self, state: State, model: Any) -> None:
        best = state.get("best_weights")
        if best is None or model is None or not model.built:
            return
        if [tuple(array.shape) for array in best] != [tuple(w.shape) for w in model.weights]:
            raise InvalidState("its best weights are not those of this model")

    def set(self, callback: Any, state: State) -> None:
        self.check_against(state, callback.model)  # it may not have been built before
        super().set(callback, state)


EARLY_STOPPING = EarlyStoppingAdapter(
    state={
        "wait": Count,
        "stopped_epoch": Count,
        "best": Number | None,
        "best_weights": Weights | None,
        "best_epoch": Count | None,
    },
    config=(
        "monitor",
        "mode",
        "min_delta",
        "monitor_op",
        "patience",
        "verbose",
        "baseline",
        "restore_best_weights",
        "start_from_epoch",
    ),
)
