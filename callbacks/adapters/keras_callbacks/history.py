"""The adapter of History."""

from __future__ import annotations

from keepfit.callbacks.adapters.base import AttributeAdapter

HISTORY = AttributeAdapter(state=("history", "epoch"))
