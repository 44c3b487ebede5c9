"""The two JSON documents of a run: a checkpoint's manifest, and HEAD.

Both contain a digest of themselves and are validated when they are read, because a bucket may
contain anything. The digest is no signature: whoever writes a document can seal it.
"""

from __future__ import annotations

import hashlib
import itertools
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from keepfit.callbacks.checkpoint.format.key_names import shorten
from keepfit.callbacks.checkpoint.format.limits import (
    MAX_DEPTH,
    MAX_DOCUMENT_BYTES,
    MAX_ITEMS,
    MAX_MANIFESTS,
    MAX_NUMBER,
    MAX_OBJECT_BYTES,
    MAX_PART_BYTES,
    MAX_PATH,
    MAX_RANK,
    AttemptNumber,
    Count,
    Name,
    Number,
    PathText,
    is_deeper_than,
)
from keepfit.callbacks.checkpoint.snapshot import Json, Position
from keepfit.callbacks.storage.base import StorageError

_OPENING, _MIDDLE, _CLOSING = b'{"sha256":"', b'","document":', b"}"

MAX_INTERRUPTIONS, MAX_SECONDS = MAX_NUMBER, 1e12
"""Upper limits of the counts of a run; a higher value is invalid, and must not overflow."""

ENDED = "ended"
"""Baseline value of HEAD: the number of the last attempt whose script came to its own end."""

COMPLETED = "completed"
"""Baseline value of HEAD: the number of the last attempt that has trained the script to its end,
with exit code 0."""

ARCHITECTURE = "state/architecture"
"""Name of the tensor with the model's architecture, which is as small or large as the model."""

FIT = "fit"
"""Name in the state of a manifest: the identity of the fit, from which HEAD can be rebuilt."""

VARIABLES = "variables"
"""Name in the state of the record of the variables' order, without which names have to agree."""

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

ShortDigest = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]

Argument = Annotated[str, Field(max_length=4096)]

BaselineName = Annotated[str, Field(min_length=1, max_length=MAX_PATH + 100)]
"""A baseline value's name contains the index of a fit and the path of a file."""

MAX_ARGUMENTS = 1000

ObjectSize = Annotated[int, Field(ge=0, le=MAX_OBJECT_BYTES)]

_ITEMS, _MANIFESTS = Field(max_length=MAX_ITEMS), Field(max_length=MAX_MANIFESTS)


def _is_absent(value: object) -> bool:
    """Return True for a value that is not known."""
    return value is None


def _is_empty(value: object) -> bool:
    """Return True for a field that keepfit 0.1 does not know and that need not be stored."""
    return not value


def _check_depth(state: dict[str, Json]) -> dict[str, Json]:
    """Return the state. Raises ValueError if it is nested too deep to be decoded."""
    if is_deeper_than(state, MAX_DEPTH):
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
    return state


class DocumentTooLarge(StorageError):
    """The document would be larger than any reader accepts."""


class UnknownDocument(ValueError):
    """The document is what was written, but this version of keepfit does not know its form."""


class Document(BaseModel):
    """A frozen JSON document of format 1; unknown fields mean that a newer keepfit wrote it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_inf_nan="strings", validate_by_name=True
    )

    format: Literal[1] = 1

    def to_bytes(self) -> bytes:
        """Return the document and its SHA-256 as one JSON object.

        Raises:
            DocumentTooLarge: it has more than MAX_DOCUMENT_BYTES.
        """
        document = self.model_dump_json(by_alias=True).encode()
        if len(document) > MAX_DOCUMENT_BYTES - 100:
            raise DocumentTooLarge(
                f"the {type(self).__name__.lower()} would have {len(document) >> 20} MiB of JSON, "
                f"and at most {MAX_DOCUMENT_BYTES >> 20} are read; a callback's state may contain "
                "a long list of texts or objects: keep it as an array or in a file"
            )
        return b"".join((_OPENING, _digest(document), _MIDDLE, document, _CLOSING))

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Parse the output of `to_bytes`, and verify its digest.

        Raises:
            UnknownDocument: its digest is right, its content is not valid for this version.
            ValueError: the content is not a valid document; the message is one line.
        """
        if len(content) > MAX_DOCUMENT_BYTES:
            raise ValueError(f"it has {len(content)} bytes, more than {MAX_DOCUMENT_BYTES}")
        start = len(_OPENING) + 64 + len(_MIDDLE)
        document = content[start : -len(_CLOSING)]
        if content != b"".join((_OPENING, _digest(document), _MIDDLE, document, _CLOSING)):
            raise ValueError("its content does not have the digest that it contains")
        try:
            return cls.model_validate_json(document)
        except ValidationError as error:
            raise UnknownDocument(first_problem(error)) from error


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


class FitRecord(BaseModel):
    """The identity of a `fit`: equal for calls that ask for the same training.

    HEAD has one for each fit of the run, so the digests are the first half of a SHA-256, and fields
    that are not known are left out.

    Attributes:
        name: the name that the script has given to the fit, if any.
        site: the place of the call in the script.
        model: digest of the model's architecture, its compilation, and the input's description.
        data: digest of the input; None if it is not known.
        unknown: the parts of the input that the digest leaves out, in words.
        iterations: the optimizer's count of steps when the fit began; None if it is not known.
        weights: digest of a sample of the weights when the fit began; None if there were none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[Name | None, Field(exclude_if=_is_absent)] = None
    site: Name = "-"
    model: Annotated[ShortDigest | None, Field(exclude_if=_is_absent)] = None
    data: Annotated[ShortDigest | None, Field(exclude_if=_is_absent)] = None
    unknown: Annotated[
        tuple[Argument, ...], Field(max_length=MAX_ARGUMENTS, exclude_if=_is_empty)
    ] = ()
    iterations: Annotated[Count | None, Field(exclude_if=_is_absent)] = None
    weights: Annotated[ShortDigest | None, Field(exclude_if=_is_absent)] = None

    def continuing(self, before: FitRecord | None) -> FitRecord:
        """Return this identity for a fit that has begun in an earlier attempt, as `before`."""
        if before is None:
            return self
        start = {"iterations": before.iterations, "weights": before.weights}
        known = {"model": self.model or before.model, "data": self.data or before.data}
        return self.model_copy(update={**start, **known})


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


class AttemptHistory(BaseModel):
    """Interruptions and durations of the run's attempts.

    Each duration is measured by the attempt's own clock, so clocks of different machines are never
    compared. An attempt is counted once it has saved: one that fails earlier is not an interrupted
    training.

    Attributes:
        interruptions: number of attempts before this one that ended without a last save.
        seconds: total duration of the attempts before this one, each up to its last checkpoint.
        lived: duration of this attempt in seconds up to its last checkpoint; 0 before the first.
        parted: that checkpoint was meant to be this attempt's last one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True)

    interruptions: Annotated[int, Field(ge=0, le=MAX_INTERRUPTIONS, alias="ends")] = 0
    seconds: Annotated[float, Field(ge=0, le=MAX_SECONDS)] = 0.0
    lived: Annotated[float, Field(ge=0, le=MAX_SECONDS)] = 0.0
    parted: bool = False

    def for_next_attempt(self) -> AttemptHistory:
        """Return the history for the attempt after this one."""
        ended = self.lived > 0 and not self.parted
        return AttemptHistory(
            interruptions=min(self.interruptions + ended, MAX_INTERRUPTIONS),
            seconds=min(self.seconds + self.lived, MAX_SECONDS),
        )

    def after_save(self, lived: float, *, last: bool) -> AttemptHistory:
        """Return the history after another checkpoint of this attempt.

        Args:
            lived: duration of this attempt in seconds.
            last: the checkpoint is meant to be the attempt's last one.
        """
        return AttemptHistory(
            interruptions=self.interruptions,
            seconds=self.seconds,
            lived=round(lived, 3),
            parted=last,
        )


class ScriptRecord(BaseModel):
    """The script of a run, as its newest attempt has run it.

    Attributes:
        arguments: the arguments on its command line; those that are secret are not stored.
        digest: SHA-256 of the script's file, hexadecimal; None where there is no file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    arguments: Annotated[tuple[Argument, ...], Field(max_length=MAX_ARGUMENTS)] = ()
    digest: Digest | None = None


class Head(Document):
    """The one mutable object of a run.

    Attributes:
        attempt: number of the newest attempt; only that attempt may write to the run.
        writer: a unique name of the process, by which a writer recognizes its own HEAD when the
            outcome of a swap is unknown.
        swaps: number of swaps of HEAD so far; it makes all contents of HEAD different.
        checkpoints: keys of the manifests of the kept checkpoints, the newest first.
        finished: key of the final checkpoint of each finished `fit`, by the fit's index.
        baseline: baseline values by name (for example file sizes) at the first start of a fit.
        history: interruptions and durations of the run's attempts.
        script: the script of the run; None in a run of keepfit 0.1.
        fits: identity of each fit, by its index; fits of keepfit 0.1 have none.
        continuations: key of the checkpoint from which a finished fit can train more epochs, by the
            fit's index.
    """

    run: Name
    attempt: AttemptNumber
    writer: Name
    swaps: Count
    checkpoints: Annotated[tuple[Name, ...], _MANIFESTS] = ()
    finished: Annotated[dict[Number, Name], _MANIFESTS] = {}
    baseline: Annotated[
        dict[BaselineName, Count], Field(alias="origin", max_length=MAX_MANIFESTS)
    ] = {}
    history: Annotated[AttemptHistory, Field(alias="past")] = AttemptHistory()
    script: Annotated[ScriptRecord | None, Field(exclude_if=_is_empty)] = None
    fits: Annotated[
        dict[Number, FitRecord], Field(exclude_if=_is_empty, max_length=MAX_MANIFESTS)
    ] = {}
    continuations: Annotated[dict[Number, Name], Field(exclude_if=_is_empty), _MANIFESTS] = {}

    def manifests(self) -> tuple[str, ...]:
        """Return the keys of all committed manifests, the newest first, without duplicates."""
        named = (self.checkpoints, reversed(self.finished.values()), self.continuations.values())
        return tuple(dict.fromkeys(itertools.chain.from_iterable(named)))


def first_problem(error: ValidationError) -> str:
    """Return the first problem of a value that does not validate, in one short line."""
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(shorten(str(part), 60) for part in first["loc"])
    what = first["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what


def _digest(document: bytes) -> bytes:
    return hashlib.sha256(document).hexdigest().encode()
