"""The adapter of EarlyStopping."""

from __future__ import annotations

from keepfit.callbacks.adapters.base import AttributeAdapter

EARLY_STOPPING = AttributeAdapter(
    state=("wait", "stopped_epoch", "best", "best_weights", "best_epoch"),
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
