"""The adapter of EarlyStopping."""

from __future__ import annotations

from keepfit.callbacks.adapters.base import AttributeAdapter
from keepfit.callbacks.adapters.state_types import Count, Number, Weights

EARLY_STOPPING = AttributeAdapter(
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
