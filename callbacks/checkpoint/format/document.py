"""The envelope of a run's JSON documents: a digest, and validation against a schema with bounds.

The digest finds damage. It is no signature: whoever writes a document can seal it.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from keepfit.callbacks.checkpoint.format.key_names import shorten
from keepfit.callbacks.checkpoint.format.limits import MAX_DOCUMENT_BYTES
from keepfit.callbacks.storage.base import StorageError

_OPENING, _MIDDLE, _CLOSING = b'{"sha256":"', b'","document":', b"}"

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

Argument = Annotated[str, Field(max_length=4096)]

MAX_ARGUMENTS = 1000


def is_absent(value: object) -> bool:
    """Return True for a value that is not known."""
    return value is None


def is_empty(value: object) -> bool:
    """Return True for a field that keepfit 0.1 does not know and that need not be stored."""
    return not value


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


def first_problem(error: ValidationError) -> str:
    """Return the first problem of a value that does not validate, in one short line."""
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(shorten(str(part), 60) for part in first["loc"])
    what = first["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what


def _digest(document: bytes) -> bytes:
    return hashlib.sha256(document).hexdigest().encode()
