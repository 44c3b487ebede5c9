"""The adapter of ReduceLROnPlateau."""

from __future__ import annotations

from keepfit.callbacks.adapters.base import AttributeAdapter
from keepfit.callbacks.adapters.state_types import Number

REDUCE_LR_ON_PLATEAU = AttributeAdapter(
    state={"best": Number | None, "wait": Number, "cooldown_counter": Number},
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
