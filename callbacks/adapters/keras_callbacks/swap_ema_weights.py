"""The adapter of SwapEMAWeights."""

from __future__ import annotations

from keepfit.callbacks.adapters.base import AttributeAdapter

SWAP_EMA_WEIGHTS = AttributeAdapter(state=("_ema_weights_in_model",), config=("swap_on_epoch",))
