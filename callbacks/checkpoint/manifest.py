"""The two JSON documents of a run: a checkpoint's manifest, and HEAD.

Both bear a digest of themselves, and are validated when they are read, because anything may stand
in a bucket.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Literal, Self
from urllib.parse import quote

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
)

from keepfit.callbacks.checkpoint.snapshot import Json, Position

_OPENING, _MIDDLE, _CLOSING = b'{"sha256":"', b'","document":', b"}"

MAX_INTERRUPTIONS, MAX_SECONDS = 10**9, 1e12
"""What is counted of a run's attempts; more in a bucket is no truth, and must not overflow."""

Name = Annotated[str, Field(min_length=1, max_length=1024)]


class Document(BaseModel):
    """A frozen JSON document of format 1; unknown fields are a sign of a newer keepfit."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_inf_nan="strings", validate_by_name=True
    )

    format: Literal[1] = 1

    def to_bytes(self) -> bytes:
        """The document and its SHA-256, as one JSON object."""
        document = self.model_dump_json(by_alias=True).encode()
        return b"".join((_OPENING, _digest(document), _MIDDLE, document, _CLOSING))

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """What `to_bytes` gave.

        Raises:
            ValueError: one line that says what is wrong.
        """
        start = len(_OPENING) + 64 + len(_MIDDLE)
        document = content[start : -len(_CLOSING)]
        if content != b"".join((_OPENING, _digest(document), _MIDDLE, document, _CLOSING)):
            raise ValueError("its content does not have the digest that it names")
        try:
            return cls.model_validate_json(document)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "document"
            raise ValueError(f"{where}: {first['msg']}") from error


class StoredTensor(BaseModel):
    """Where a tensor's bytes lie: `offset` and `size` are bytes within the shard's object."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    dtype: Name
    shape: tuple[NonNegativeInt, ...]
    shard: NonNegativeInt
    offset: NonNegativeInt
    size: NonNegativeInt


class StoredShard(BaseModel):
    """One safetensors object: its key, its SHA-256 and its size in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Name
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    size: PositiveInt


class StoredPart(BaseModel):
    """A stretch of a file: its key, its SHA-256 and its size in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Name
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    size: PositiveInt


class StoredFile(BaseModel):
    """A file as it was at the checkpoint: the concatenation of its parts.

    Attributes:
        path: as the script names it.
        whole: it is replaced as a whole, and not appended to.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Annotated[str, Field(min_length=1, max_length=4096)]
    parts: tuple[StoredPart, ...]
    whole: bool = False

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)


class Manifest(Document):
    """What a checkpoint consists of. Written once, before HEAD names it.

    Attributes:
        sequence: checkpoints written by this attempt before this one.
        created: UTC, ISO 8601; for people only, nothing is decided by it.
    """

    run: Name
    attempt: PositiveInt
    sequence: NonNegativeInt
    created: Name
    versions: dict[str, str]
    position: Position
    shards: tuple[StoredShard, ...]
    tensors: tuple[StoredTensor, ...]
    state: dict[str, Json]
    files: Annotated[tuple[StoredFile, ...], Field(alias="logs")] = ()

    def objects(self) -> tuple[str, ...]:
        """The keys of all objects that the checkpoint consists of, but for the manifest."""
        parts = (part.key for file in self.files for part in file.parts)
        return (*(shard.key for shard in self.shards), *parts)


class AttemptHistory(BaseModel):
    """How long the run's attempts have lived, each by its own clock, so that none is compared.

    An attempt is counted once it has saved: one that fails before is no interrupted training.

    Attributes:
        interruptions: attempts before this one that have ended without a last save.
        seconds: what the attempts before this one had lived at their last checkpoints, summed.
        lived: what this one has, at its last checkpoint; 0 before the first.
        parted: that checkpoint was meant to be its last one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True)

    interruptions: Annotated[int, Field(ge=0, le=MAX_INTERRUPTIONS, alias="ends")] = 0
    seconds: Annotated[float, Field(ge=0, le=MAX_SECONDS)] = 0.0
    lived: Annotated[float, Field(ge=0, le=MAX_SECONDS)] = 0.0
    parted: bool = False

    def of_next(self) -> AttemptHistory:
        """What the attempt after this one knows."""
        ended = self.lived > 0 and not self.parted
        return AttemptHistory(
            interruptions=min(self.interruptions + ended, MAX_INTERRUPTIONS),
            seconds=min(self.seconds + self.lived, MAX_SECONDS),
        )

    def after_save(self, lived: float, *, last: bool) -> AttemptHistory:
        """With another checkpoint, after so many seconds of this attempt."""
        return AttemptHistory(
            interruptions=self.interruptions,
            seconds=self.seconds,
            lived=round(lived, 3),
            parted=last,
        )


class Head(Document):
    """The one mutable object of a run.

    Attributes:
        attempt: the newest attempt; only it may write.
        writer: names the process, so that a writer knows its own HEAD after an unclear answer.
        swaps: how often HEAD was swapped; no two contents of HEAD are equal.
        checkpoints: keys of the manifests in force, the newest first.
        finished: the final checkpoint of each `fit` that is over, by its index.
        baseline: what was so before a fit first began, by name: the sizes of append-only files.
        history: how long attempts have lived.
    """

    run: Name
    attempt: PositiveInt
    writer: Name
    swaps: NonNegativeInt
    checkpoints: tuple[Name, ...] = ()
    finished: dict[NonNegativeInt, Name] = {}
    baseline: Annotated[dict[str, NonNegativeInt], Field(alias="origin")] = {}
    history: Annotated[AttemptHistory, Field(alias="past")] = AttemptHistory()

    def manifests(self) -> tuple[str, ...]:
        """Every key in force, the newest first, none twice."""
        return tuple(dict.fromkeys((*self.checkpoints, *reversed(self.finished.values()))))


def head_key(run: str) -> str:
    """Where the run's HEAD is."""
    return f"{run}/HEAD.json"


def manifest_key(run: str, step: int, attempt: int, sequence: int) -> str:
    """Sequence keeps two checkpoints of one step apart: after its batch, and when fit is over."""
    return f"{run}/checkpoints/{step:010d}-{attempt:04d}-{sequence:04d}.json"


def shard_key(run: str, digest: str, attempt: int) -> str:
    """The attempt is in the name so that no attempt ever deletes a newer one's shard.

    An older attempt that is still alive removes only names of its own or older ones, and of those
    only what its last HEAD did not keep; a newer attempt builds on that HEAD and on its own names.
    """
    return f"{run}/shards/{digest}-{attempt:04d}.safetensors"


def part_key(run: str, name: str, start: int, attempt: int, sequence: int) -> str:
    """A part of a callback's file; `name` stands for its path."""
    return f"{run}/logs/{name}/{start:012d}-{attempt:04d}-{sequence:04d}"


def artifact_key(run: str, name: str) -> str:
    """A whole file, for people. Nothing reads it, and nothing deletes it."""
    return f"{run}/artifacts/{name}"


def report_key(run: str, name: str) -> str:
    """Says that the outside world has been told something, so that nobody tells it again."""
    return f"{run}/reports/{quote(name, safe='')}"


_WRITTEN = re.compile(
    r"[^/]+/(?:checkpoints/\d{10,}-(\d{4,})-\d{4,}\.json"
    r"|shards/[0-9a-f]{64}-(\d{4,})\.safetensors"
    r"|logs/.+/\d{12,}-(\d{4,})-\d{4,})",
    re.ASCII | re.DOTALL,
)


def attempt_of(key: str) -> int | None:
    """The attempt that wrote a manifest, a shard or a log's part; None for any other object."""
    match = _WRITTEN.fullmatch(key)
    return int(match[1] or match[2] or match[3]) if match else None


def _digest(document: bytes) -> bytes:
    return hashlib.sha256(document).hexdigest().encode()
