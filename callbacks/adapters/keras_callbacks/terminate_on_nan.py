"""The adapter of TerminateOnNaN, which has no state."""

from __future__ import annotations

from keepfit.callbacks.adapters.base import AttributeAdapter

TERMINATE_ON_NAN = AttributeAdapter(config=("raise_error",))
