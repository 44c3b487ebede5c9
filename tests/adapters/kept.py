"""Helpers that pass the state of callbacks through the encoding of a checkpoint."""

import json

from keepfit.callbacks.adapters import held_callbacks
from keepfit.callbacks.checkpoint.codec import decode


def stored(held):
    """Return the callbacks' state as the reader of a checkpoint returns it."""
    arrays = {}
    text = json.dumps(held_callbacks.capture(held, arrays))
    kept = {name: array.copy() for name, array in arrays.items()}
    return decode(json.loads(text), kept.__getitem__)


def restore(held, saved):
    """Restore the state in these callbacks, as Resumable does."""
    held_callbacks.restore(held, saved)


def transferred(old, *new):
    """Return the new callbacks, inside Resumable, with the state of `old`."""
    held = held_callbacks.hold_callbacks(new)
    restore(held, stored(old))
    return held
