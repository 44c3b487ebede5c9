"""A checkpoint's model as a file that other tools read, without its script."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

from callbacks.checkpoint.reader import Checkpoint, newest_usable
from callbacks.checkpoint.shards import pack
from callbacks.checkpoint.snapshot import Tensor, array_bytes
from callbacks.storage.base import Store

_MODEL = "model/"


class NotExportable(Exception):
    """The file can't be made; the message says why, and what can."""


def newest(store: Store, run: str, keys: tuple[str, ...], fit: int) -> Checkpoint:
    """The newest checkpoint that verifies.

    Raises:
        NoneLeft: none does.
        NotExportable: the run has none.
    """
    found = newest_usable(store, run, keys, fit=fit)
    if found is None:
        raise NotExportable(f"run {run!r} has no checkpoint yet")
    return found


def export(checkpoint: Checkpoint, path: Path) -> None:
    """Write the model's variables, or the model, to `path`, whose ending says which.

    Raises:
        NotExportable: the model can't be built from the checkpoint alone.
        OSError: the file can't be written.
    """
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        if path.name.endswith(".safetensors"):
            _as_safetensors(checkpoint, temporary)
        else:
            model = _model(checkpoint)
            save = model.save if path.name.endswith(".keras") else model.save_weights
            save(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _as_safetensors(checkpoint: Checkpoint, path: Path) -> None:
    tensors = [
        Tensor(t.name.removeprefix(_MODEL), "model", t.dtype, t.shape, partial(array_bytes, array))
        for t in checkpoint.manifest.tensors
        if t.name.startswith(_MODEL) and (array := checkpoint.arrays[t.name]) is not None
    ]
    (shard,) = pack(tensors, checkpoint.key, target=sys.maxsize)
    with open(path, "wb") as file:
        file.writelines(shard.body)


def _model(checkpoint: Checkpoint) -> Any:
    """The model with its weights. No code of the user's is loaded, so it may not be buildable."""
    import keras

    from callbacks.training import variables

    way_out = "export to .safetensors instead, which needs no architecture"
    text = checkpoint.state.get("architecture")
    if text is None:
        raise NotExportable(f"this model can be built by its script only; {way_out}")
    try:
        model = keras.models.model_from_json(text.decode())
    except Exception as error:  # noqa: BLE001 # Keras raises whatever a layer's constructor does
        cause = str(error).strip().splitlines()[0]
        raise NotExportable(f"the model needs its script: {cause}; {way_out}") from None
    found = sorted(variables.find(model), key=lambda named: named.group)
    for part in (_MODEL, "optimizer/"):
        ours = [named for named in found if named.spec.name.startswith(part)]
        saved = [t for t in checkpoint.manifest.tensors if t.name.startswith(part)]
        same = [(n.spec.dtype, n.spec.shape) for n in ours] == [(t.dtype, t.shape) for t in saved]
        if part == _MODEL and not same:
            raise NotExportable(f"the model, built anew, has other variables; {way_out}")
        # By their order: the names of the layers around them may be others.
        for named, stored in zip(ours, saved, strict=True) if same else ():
            named.variable.assign(checkpoint.arrays[stored.name])
    return model
