"""Helpers that pass the state of callbacks through the encoding of a checkpoint."""

import json

from keepfit.callbacks.adapters.held_callbacks import HeldCallbacks
from keepfit.callbacks.checkpoint.format.codec import decode
from keepfit.callbacks.exactness import ExactnessGuard


def stored(held):
    """Return the callbacks' state as the reader of a checkpoint returns it."""
    arrays = {}
    text = json.dumps(held.capture().encode(arrays, ExactnessGuard()))
    kept = {name: array.copy() for name, array in arrays.items()}
    return decode(json.loads(text), kept.__getitem__)


def restore(held, saved):
    """Restore the state in these callbacks, as Resumable does."""
    held.restore(saved)


def transferred(old, *new):
    """Return the new callbacks, inside Resumable, with the state of `old`."""
    held = HeldCallbacks.hold(new)
    restore(held, stored(old))
    return held
