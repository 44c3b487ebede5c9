"""The adapter of LearningRateScheduler. It has no state: the optimizer has the learning rate."""

from __future__ import annotations

from keepfit.callbacks.adapters.base import AttributeAdapter

LEARNING_RATE_SCHEDULER = AttributeAdapter(config=("schedule", "verbose"))
