"""The adapter of SwapEMAWeights.

Private name of Keras: `_ema_weights_in_model`, which tells whether the weights are swapped now.
"""

from __future__ import annotations

from keepfit.callbacks.adapters.base import AttributeAdapter

SWAP_EMA_WEIGHTS = AttributeAdapter(
    state={"_ema_weights_in_model": bool}, config=("swap_on_epoch",)
)
