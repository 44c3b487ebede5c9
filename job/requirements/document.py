"""The resolved requirements of a job, as the store has them."""

from __future__ import annotations

import hashlib
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from keepfit.callbacks.checkpoint.format.document import Digest, Document

MAX_WHEELS: Final = 1000
MAX_WHEEL_BYTES: Final = 4 << 30
MAX_BYTES: Final = 16 << 30
"""Bytes of all wheels together that an attempt downloads at most."""

FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+!-]*\.whl$", max_length=255)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=128)]
Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.+!-]+$", max_length=128)]


class Wheel(BaseModel):
    """One wheel.

    Attributes:
        name: the name of its package, normalized.
        file: the name of the file, from which an installer reads what the wheel fits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    version: Version
    file: FileName
    sha256: Digest
    size: Annotated[int, Field(ge=1, le=MAX_WHEEL_BYTES)]

    @property
    def key(self) -> str:
        """The key of the wheel. No run has this prefix: names begin with a letter or digit."""
        return f".wheels/{self.sha256}/{self.file}"


class Requirements(Document):
    """The wheels that an attempt installs.

    Attributes:
        python: the version of Python, such as 3.11.
        provided: versions of the image's own packages that the resolution relies on, by name.
    """

    python: Annotated[str, Field(pattern=r"^3\.[0-9]{1,2}$")]
    wheels: Annotated[tuple[Wheel, ...], Field(min_length=1, max_length=MAX_WHEELS)]
    provided: Annotated[dict[Name, Version], Field(max_length=MAX_WHEELS)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.size > MAX_BYTES:
            raise ValueError(f"the wheels have {self.size} bytes, more than {MAX_BYTES}")
        names = [wheel.name for wheel in self.wheels]
        if len({*names}) < len(names) or len({w.file for w in self.wheels}) < len(names):
            raise ValueError("a package is listed more than once")
        if both := sorted({*names} & self.provided.keys()):
            raise ValueError(f"{both[0]} is listed as a wheel and as a package of the image")
        return self

    @property
    def size(self) -> int:
        """Bytes of all wheels."""
        return sum(wheel.size for wheel in self.wheels)

    @property
    def digest(self) -> str:
        """The digest that names the stored document."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


def document_key(digest: str) -> str:
    """Return the key of a document."""
    return f".requirements/{digest}.json"
