"""The identity of a `fit`, as HEAD and manifests contain it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from keepfit.callbacks.checkpoint.format.document import (
    MAX_ARGUMENTS,
    Argument,
    is_absent,
    is_empty,
)
from keepfit.callbacks.checkpoint.format.limits import Count, Name

ShortDigest = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


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

    name: Annotated[Name | None, Field(exclude_if=is_absent)] = None
    site: Name = "-"
    model: Annotated[ShortDigest | None, Field(exclude_if=is_absent)] = None
    data: Annotated[ShortDigest | None, Field(exclude_if=is_absent)] = None
    unknown: Annotated[
        tuple[Argument, ...], Field(max_length=MAX_ARGUMENTS, exclude_if=is_empty)
    ] = ()
    iterations: Annotated[Count | None, Field(exclude_if=is_absent)] = None
    weights: Annotated[ShortDigest | None, Field(exclude_if=is_absent)] = None

    def continuing(self, before: FitRecord | None) -> FitRecord:
        """Return this identity for a fit that has begun in an earlier attempt, as `before`."""
        if before is None:
            return self
        start = {"iterations": before.iterations, "weights": before.weights}
        known = {"model": self.model or before.model, "data": self.data or before.data}
        return self.model_copy(update={**start, **known})
