"""The adapter of ReduceLROnPlateau."""

from __future__ import annotations

from keepfit.callbacks.adapters.base import AttributeAdapter

REDUCE_LR_ON_PLATEAU = AttributeAdapter(
    state=("best", "wait", "cooldown_counter"),
    config=(
        "monitor",
        "mode",
        "min_delta",
        "monitor_op",
        "factor",
        "min_lr",
        "patience",
        "verbose",
        "cooldown",
    ),
)
