"""keepfit and its peers, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras

from compare import peers
from compare.method import Method


def _ours() -> Method:
    from compare.ours import Keepfit  # peers need not wait for its imports

    return Keepfit()


METHODS: Mapping[str, Callable[[], Method]] = {
    "keepfit": _ours,
    "BackupAndRestore": lambda: peers.OwnCallback(
        lambda folder, every: keras.callbacks.BackupAndRestore(folder, save_freq=every),
        lambda model, _: model,
        restores=True,
    ),
    "ModelCheckpoint .keras": lambda: peers.OwnCallback(
        lambda folder, every: keras.callbacks.ModelCheckpoint(
            folder / "model.keras", save_freq=every
        ),
        peers.whole_model,
    ),
    "ModelCheckpoint .weights.h5": lambda: peers.OwnCallback(
        lambda folder, every: keras.callbacks.ModelCheckpoint(
            folder / "model.weights.h5", save_weights_only=True, save_freq=every
        ),
        peers.weights("model.weights.h5"),
    ),
    "OrbaxCheckpoint": lambda: peers.OwnCallback(
        lambda folder, every: keras.callbacks.OrbaxCheckpoint(str(folder), save_freq=every),
        peers.orbax,
    ),
    "CheckpointManager": lambda: peers.CheckpointManager(asynchronous=False),
    "CheckpointManager, async": lambda: peers.CheckpointManager(asynchronous=True),
}
