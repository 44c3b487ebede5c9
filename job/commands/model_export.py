"""A checkpoint's model as a file that other tools read, without its script."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from keepfit.callbacks.checkpoint.inspection import TRIES, read_committed, read_named_head
from keepfit.callbacks.checkpoint.manifest import Manifest, StoredTensor
from keepfit.callbacks.checkpoint.reader import Checkpoint, NoUsableCheckpoint, read_newest_usable
from keepfit.callbacks.checkpoint.shards import pack_shards
from keepfit.callbacks.checkpoint.snapshot import Tensor, array_bytes
from keepfit.callbacks.storage.base import Store

_MODEL, _OPTIMIZER = "model/", "optimizer/"
_OF_OTHER_REPLICA = re.compile(r"@[1-9]\d*$")
_WAY_OUT = "export to .safetensors instead, which needs no architecture"


class NotExportable(Exception):
    """The file can't be made; the message says why, and what can."""


class NoCheckpointYet(Exception):
    """The run has no checkpoint yet."""


def read_newest(store: Store, run: str) -> Checkpoint:
    """The newest checkpoint that verifies.

    It is looked for once more if an attempt that is alive has replaced what was to be read.

    Raises:
        NoneLeft: none does.
        NothingSaved: the run has none.
    """
    for _ in range(TRIES):
        found = read_committed(store, run)
        keys = found.head.manifests()
        fit = next((m.position.fit for m in found.manifests.values()), 0)
        try:
            checkpoint = read_newest_usable(store, run, keys, fit=fit)
        except NoUsableCheckpoint:
            if read_named_head(store, run).manifests() == keys:
                raise
        else:
            if checkpoint is None:
                raise NoCheckpointYet(f"run {run!r} has no checkpoint yet")
            return checkpoint
    raise NoUsableCheckpoint(
        f"run {run!r} in {store.uri} saves faster than its checkpoints can be read"
    )


def export_model(checkpoint: Checkpoint, path: Path) -> bool:
    """Write the model's variables, or the model, to `path`, whose ending says which.

    Returns:
        Whether the file holds the optimizer's state, from which training could go on.

    Raises:
        NotExportable: the model can't be built from the checkpoint alone.
        OSError: the file can't be written.
    """
    temporary = path.with_name(f".tmp-{path.name}")
    optimizer = False
    try:
        if path.name.endswith(".safetensors"):
            _as_safetensors(checkpoint, temporary)
        elif path.name.endswith(".keras"):
            model, optimizer = _model(checkpoint)
            model.save(temporary)
        else:
            _model(checkpoint)[0].save_weights(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return optimizer


def _as_safetensors(checkpoint: Checkpoint, path: Path) -> None:
    tensors = [
        Tensor(t.name.removeprefix(_MODEL), "model", t.dtype, t.shape, partial(array_bytes, array))
        for t in checkpoint.manifest.tensors
        if t.name.startswith(_MODEL) and (array := checkpoint.arrays[t.name]) is not None
    ]
    (shard,) = pack_shards(tensors, checkpoint.key, target=sys.maxsize)
    with open(path, "wb") as file:
        file.writelines(shard.body)


def _model(checkpoint: Checkpoint) -> tuple[Any, bool]:
    """The model with its weights, and whether its optimizer has its state.

    No code of the user's is loaded, so it may not be buildable.
    """
    import keras

    from keepfit.callbacks.training import variables

    text = checkpoint.state.get("architecture")
    if text is None:
        raise NotExportable(f"this model can be built by its script only; {_WAY_OUT}")
    try:
        document = json.loads(text)
        names = document["variables"]
        model = keras.saving.deserialize_keras_object(document["model"], safe_mode=True)
    except Exception as error:  # noqa: BLE001 # Keras raises whatever a layer's constructor does
        cause = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise NotExportable(f"the model needs its script: {cause}; {_WAY_OUT}") from None
    if not isinstance(model, keras.Model):
        raise NotExportable(f"the checkpoint's architecture is not a model's; {_WAY_OUT}")
    found = variables.find_variables(model)
    if not _assign(checkpoint, found, names, _MODEL):
        raise NotExportable(f"the model, built anew, has other variables; {_WAY_OUT}")
    return model, _assign(checkpoint, found, names, _OPTIMIZER)


def _assign(checkpoint: Checkpoint, found: Sequence[Any], names: Any, prefix: str) -> bool:
    """Give the variables their saved values, in the order in which both models find them.

    The names of the layers around them may be others; their own names, types and shapes may not.
    Returns whether they are the same; if not, none was changed.
    """
    saved = {tensor.name: tensor for tensor in _tensors_with_prefix(checkpoint.manifest, prefix)}
    saved = {name: tensor for name, tensor in saved.items() if not _OF_OTHER_REPLICA.search(name)}
    theirs = [saved[name] for name in names if name in saved]
    ours = [named for named in found if named.spec.name.startswith(prefix)]
    if len(theirs) != len(ours) or len(theirs) != len(saved):
        return False
    pairs = [(o, t) for o, t in zip(ours, theirs, strict=True) if t and _same_variable(o.spec, t)]
    if len(pairs) != len(ours):
        return False
    for named, tensor in pairs:
        named.variable.assign(checkpoint.arrays[tensor.name])
    return bool(pairs)


def _same_variable(spec: Any, tensor: StoredTensor) -> bool:
    return (_own_name(spec.name), spec.dtype, spec.shape) == (
        _own_name(tensor.name),
        tensor.dtype,
        tensor.shape,
    )


def _own_name(name: str) -> str:
    """A variable's own name, without its layers; an optimizer's holds theirs (`dense_kernel_m`)."""
    last = re.split("[~@]", name.rpartition("/")[2])[0]
    return last.rpartition("_")[2] if name.startswith(_OPTIMIZER) else last


def _tensors_with_prefix(manifest: Manifest, prefix: str) -> list[StoredTensor]:
    return [tensor for tensor in manifest.tensors if tensor.name.startswith(prefix)]
