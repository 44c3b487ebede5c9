"""The adapter of History."""

from __future__ import annotations

from typing import Any

from keepfit.callbacks.adapters.base import AttributeAdapter
from keepfit.callbacks.adapters.state_types import Number

HISTORY = AttributeAdapter(state={"history": dict[str, list[Any]], "epoch": list[Number]})
