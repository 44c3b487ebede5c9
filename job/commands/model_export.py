"""Export a checkpoint's model to a file for other tools, without its script."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from keepfit.callbacks.checkpoint.format.manifest import Manifest, StoredTensor
from keepfit.callbacks.checkpoint.format.shards import pack_shards
from keepfit.callbacks.checkpoint.read.documents import NoUsableCheckpoint
from keepfit.callbacks.checkpoint.read.inspection import TRIES, read_committed, read_named_head
from keepfit.callbacks.checkpoint.read.reader import Checkpoint, read_newest_usable
from keepfit.callbacks.checkpoint.snapshot import Tensor, array_bytes
from keepfit.callbacks.storage.base import Store
from keepfit.job.commands.failures import NoCheckpointYet
from keepfit.job.commands.model_config import check_config

_MODEL, _OPTIMIZER = "model/", "optimizer/"
_OF_OTHER_REPLICA = re.compile(r"@[1-9]\d*$")
_ALTERNATIVE = "export to .safetensors instead, which needs no architecture"


class NotExportable(Exception):
    """The file can't be written; the message contains the cause and an alternative."""


def read_newest(store: Store, run: str) -> Checkpoint:
    """Return the newest checkpoint that verifies.

    HEAD is read again if a running attempt has meanwhile replaced the checkpoints that it named.

    Raises:
        NoUsableCheckpoint: no checkpoint verifies.
        NoCheckpointYet: the run has no checkpoint.
    """
    for _ in range(TRIES):
        found = read_committed(store, run)
        keys = found.head.manifests()
        fit = found.newest.position.fit if found.newest else 0
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
    """Write the model, or its variables, to `path`, depending on the suffix.

    Returns:
        True if the file contains the optimizer's state, with which training could continue.

    Raises:
        NotExportable: the model can't be built from the checkpoint alone.
        OSError: the file can't be written.
    """
    if not checkpoint.manifest.has_variables:
        raise NotExportable("the final weights of this fit are no longer kept; see keep_fits")
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
    if not tensors:
        raise NotExportable("the checkpoint has no variables of a model")
    (shard,) = pack_shards(tensors, checkpoint.key, target=sys.maxsize)
    with open(path, "wb") as file:
        file.writelines(shard.body)


def _model(checkpoint: Checkpoint) -> tuple[Any, bool]:
    """Return the model with its weights, and True if its optimizer has its state.

    No code of the user is loaded, so not every model can be built.

    Raises:
        NotExportable: the model can't be built.
    """
    import keras

    from keepfit.callbacks.training import variables

    text = checkpoint.state.get("architecture")
    if text is None:
        raise NotExportable(f"only its script can build this model; {_ALTERNATIVE}")
    try:
        document = json.loads(text)
        names = document["variables"]
        check_config(document["model"])
        model = keras.saving.deserialize_keras_object(document["model"], safe_mode=True)
    except Exception as error:  # noqa: BLE001 # a layer's constructor may raise any exception
        cause = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise NotExportable(f"the model needs its script: {cause}; {_ALTERNATIVE}") from None
    if not isinstance(model, keras.Model):
        raise NotExportable(f"the checkpoint's architecture is not that of a model; {_ALTERNATIVE}")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise NotExportable(f"the checkpoint's list of variables is not valid; {_ALTERNATIVE}")
    found = variables.find_variables(model)
    if not _assign(checkpoint, found, names, _MODEL):
        raise NotExportable(f"the rebuilt model has other variables; {_ALTERNATIVE}")
    return model, _assign(checkpoint, found, names, _OPTIMIZER)


def _assign(checkpoint: Checkpoint, found: Sequence[Any], names: Any, prefix: str) -> bool:
    """Assign the saved values to the variables, in the order in which both models list them.

    The names of their layers may differ; their own names, types and shapes may not.

    Returns:
        True if the variables match; otherwise none was changed.
    """
    saved = {tensor.name: tensor for tensor in _tensors_with_prefix(checkpoint.manifest, prefix)}
    saved = {name: tensor for name, tensor in saved.items() if not _OF_OTHER_REPLICA.search(name)}
    tensors = [saved[name] for name in names if name in saved]
    targets = [named for named in found if named.spec.name.startswith(prefix)]
    if len(tensors) != len(targets) or len(tensors) != len(saved):
        return False
    both = zip(targets, tensors, strict=True)
    pairs = [
        (named, tensor) for named, tensor in both if tensor and _same_variable(named.spec, tensor)
    ]
    if len(pairs) != len(targets):
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
    """Return a variable's own name; an optimizer's contains layer names too (`dense_kernel_m`)."""
    last = re.split("[~@]", name.rpartition("/")[2])[0]
    return last.rpartition("_")[2] if name.startswith(_OPTIMIZER) else last


def _tensors_with_prefix(manifest: Manifest, prefix: str) -> list[StoredTensor]:
    return [tensor for tensor in manifest.tensors if tensor.name.startswith(prefix)]
