"""State on its way through a checkpoint."""

import json

from keepfit.callbacks.adapters import held_callbacks
from keepfit.callbacks.checkpoint.codec import decode


def stored(held):
    """The callbacks' state, as the reader of a checkpoint gives it."""
    arrays = {}
    text = json.dumps(held_callbacks.capture(held, arrays))
    kept = {name: array.copy() for name, array in arrays.items()}
    return decode(json.loads(text), kept.__getitem__)


def restored(held, saved):
    """Put it back into these callbacks, as Recorder does."""
    held_callbacks.restore(held, saved)


def passed_on(old, *new):
    """The new callbacks, after they got what `old` holds."""
    held = held_callbacks.hold_callbacks(new)
    restored(held, stored(old))
    return held
