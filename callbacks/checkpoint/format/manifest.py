"""The manifest of a checkpoint: where its tensors and files are, and its plain values."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from keepfit.callbacks.checkpoint.format.document import Digest, Document
from keepfit.callbacks.checkpoint.format.fit_record import FitRecord
from keepfit.callbacks.checkpoint.format.limits import (
    MAX_DEPTH,
    MAX_ITEMS,
    MAX_OBJECT_BYTES,
    MAX_PART_BYTES,
    MAX_RANK,
    AttemptNumber,
    Count,
    Json,
    Name,
    Number,
    PathText,
    is_deeper_than,
)
from keepfit.callbacks.checkpoint.format.position import Position

ARCHITECTURE = "state/architecture"
"""Name of the tensor with the model's architecture, which is as small or large as the model."""

FIT = "fit"
"""Name in the state of a manifest: the identity of the fit, from which HEAD can be rebuilt."""

VARIABLES = "variables"
"""Name in the state of the record of the variables' order, without which names have to agree."""

ObjectSize = Annotated[int, Field(ge=0, le=MAX_OBJECT_BYTES)]

_ITEMS = Field(max_length=MAX_ITEMS)


def _check_depth(state: dict[str, Json]) -> dict[str, Json]:
    """Return the state. Raises ValueError if it is nested too deep to be decoded."""
    if is_deeper_than(state, MAX_DEPTH):
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
    return state


class StoredTensor(BaseModel):
    """The location of a tensor's bytes in a shard.

    Attributes:
        dtype: as the safetensors format names it: "F32".
        shard: index into the manifest's `shards`.
        offset, size: in bytes, within the shard's object.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    dtype: Name
    shape: Annotated[tuple[Count, ...], Field(max_length=MAX_RANK)]
    shard: Number
    offset: ObjectSize
    size: ObjectSize


class StoredShard(BaseModel):
    """One safetensors object: its key, its SHA-256 and its size in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Name
    digest: Digest
    size: Annotated[int, Field(ge=1, le=MAX_OBJECT_BYTES)]


class StoredPart(BaseModel):
    """A contiguous part of a file: its key, its SHA-256 and its size in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Name
    digest: Digest
    size: Annotated[int, Field(ge=1, le=MAX_PART_BYTES)]


class StoredFile(BaseModel):
    """A file as it was at the checkpoint: the concatenation of its parts.

    Attributes:
        path: the path as the script names it.
        whole: the file is replaced as a whole; otherwise it is append-only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: PathText
    parts: Annotated[tuple[StoredPart, ...], _ITEMS]
    whole: bool = False

    @property
    def size(self) -> int:
        """The file's size in bytes."""
        return sum(part.size for part in self.parts)


class Manifest(Document):
    """The contents of a checkpoint. Written once, before HEAD names it.

    Attributes:
        attempt: number of the attempt that wrote the checkpoint.
        sequence: number of checkpoints that this attempt wrote before this one.
        created: creation time, UTC, ISO 8601; for users only, no decision depends on it.
        versions: versions of the libraries that wrote the checkpoint, by name.
        state: plain values by name, encoded by codec.py.
    """

    run: Name
    attempt: AttemptNumber
    sequence: Number
    created: Name
    versions: Annotated[dict[Name, Name], Field(max_length=1000)]
    position: Position
    shards: Annotated[tuple[StoredShard, ...], _ITEMS]
    tensors: Annotated[tuple[StoredTensor, ...], _ITEMS]
    state: Annotated[dict[str, Json], AfterValidator(_check_depth)]
    files: Annotated[tuple[StoredFile, ...], Field(alias="logs"), _ITEMS] = ()

    @property
    def fit_record(self) -> FitRecord | None:
        """The identity of the fit; None in a checkpoint of keepfit 0.1, or if it is not valid."""
        try:
            return FitRecord.model_validate(self.state.get(FIT))
        except ValidationError:
            return None

    @property
    def has_variables(self) -> bool:
        """False if the variables of a finished fit have been dropped (see Attempt.commit)."""
        return any(not t.name.startswith(("state/", "data/")) for t in self.tensors)

    def without_variables(self) -> Manifest:
        """Return the manifest of what is kept of a finished fit whose variables are dropped."""
        state = {name: value for name, value in self.state.items() if name != VARIABLES}
        kept = [t for t in self.tensors if t.name.startswith("state/") and t.name != ARCHITECTURE]
        shards = tuple(dict.fromkeys(t.shard for t in kept))
        return self.model_copy(
            update={
                "state": {**state, "architecture": None},
                "shards": tuple(self.shards[i] for i in shards),
                "tensors": tuple(
                    t.model_copy(update={"shard": shards.index(t.shard)}) for t in kept
                ),
            }
        )

    def objects(self) -> tuple[str, ...]:
        """Return the keys of all objects of the checkpoint, except the manifest's own."""
        parts = (part.key for file in self.files for part in file.parts)
        return (*(shard.key for shard in self.shards), *parts)
