"""The options of S3 requests: server-side encryption, the bucket's owner, and the payer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from keepfit.callbacks.storage.base import StorageError

SSE: Final = "KEEPFIT_S3_SSE"
KMS_KEY: Final = "KEEPFIT_S3_KMS_KEY_ID"
BUCKET_KEY: Final = "KEEPFIT_S3_BUCKET_KEY"
EXPECTED_OWNER: Final = "KEEPFIT_S3_EXPECTED_BUCKET_OWNER"
PAYER: Final = "KEEPFIT_S3_REQUEST_PAYER"
VARIABLES: Final = (SSE, KMS_KEY, BUCKET_KEY, EXPECTED_OWNER, PAYER)
"""The environment variables from which the options come."""

KMS: Final = "aws:kms"
DSSE: Final = "aws:kms:dsse"
ALGORITHMS: Final = ("AES256", KMS, DSSE)

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")
_KEY = re.compile(r"[!-~]{1,2048}")
"""A key's id, ARN or alias: text without spaces. Servers other than S3 have their own names."""


@dataclass(frozen=True)
class RequestOptions:
    """The options of every request; an empty one leaves the decision to the bucket.

    Attributes:
        sse: the algorithm of the server-side encryption.
        kms_key: the id, ARN or alias of the KMS key.
        bucket_key: whether S3 derives the objects' keys from one key of the bucket.
        owner: the account that must own the bucket; S3 refuses a request otherwise.
        payer: the requester agrees to pay, as a bucket with requester pays demands it.
    """

    sse: str = ""
    kms_key: str = ""
    bucket_key: bool | None = None
    owner: str = ""
    payer: bool = False

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """Return the options that the environment sets; an empty variable sets nothing.

        Raises:
            StorageError: a value can't be used, or two of them contradict each other.
        """
        payer = environ.get(PAYER, "")
        options = cls(
            sse=environ.get(SSE, ""),
            kms_key=environ.get(KMS_KEY, ""),
            bucket_key=_parse_bool(BUCKET_KEY, environ.get(BUCKET_KEY, "")),
            owner=environ.get(EXPECTED_OWNER, ""),
            payer=payer == "requester" or _parse_bool(PAYER, payer) is True,
        )
        if fault := options.fault():
            raise StorageError(fault)
        return options

    def fault(self) -> str:
        """Return why S3 would refuse these options, and the fix; empty if it would not."""
        if self.sse and self.sse not in ALGORITHMS:
            return f"{SSE} must be one of {', '.join(ALGORITHMS)}. Received: {SSE}={self.sse!r}"
        if self.kms_key and not _KEY.fullmatch(self.kms_key):
            return (
                f"{KMS_KEY} must be the id, the ARN or the alias (alias/NAME) of a KMS key. "
                f"Received: {KMS_KEY}={self.kms_key[:100]!r}"
            )
        if self.kms_key and self.sse not in (KMS, DSSE):
            return (
                f"{KMS_KEY} needs {SSE}={KMS} or {SSE}={DSSE}: other encryption has no KMS key. "
                f"Received: {SSE}={self.sse!r}"
            )
        if self.bucket_key is not None and self.sse != KMS:
            return (
                f"{BUCKET_KEY} needs {SSE}={KMS}: other encryption has no bucket key. "
                f"Received: {SSE}={self.sse!r}"
            )
        if self.owner and not re.fullmatch("[0-9]{12}", self.owner):
            return (
                f"{EXPECTED_OWNER} must be the 12 digits of an AWS account. "
                f"Received: {EXPECTED_OWNER}={self.owner[:100]!r}"
            )
        return ""

    def parameters(self) -> dict[str, str | bool]:
        """Return the parameters of the options that are set, by their names in S3's API."""
        given: dict[str, str | bool | None] = {
            "ServerSideEncryption": self.sse or None,
            "SSEKMSKeyId": self.kms_key or None,
            "BucketKeyEnabled": self.bucket_key,
            "ExpectedBucketOwner": self.owner or None,
            # A store copies within its bucket only.
            "ExpectedSourceBucketOwner": self.owner or None,
            "RequestPayer": "requester" if self.payer else None,
        }
        return {name: value for name, value in given.items() if value is not None}

    def apply_to(self, client: Any) -> None:
        """Let the client send the options with every request whose operation has them.

        botocore calls the handler for each operation, also for those of paginators and of
        s3transfer, and its model names the parameters; so no request can lack an option.
        """
        client.meta.events.register("before-parameter-build.s3", self._add_parameters)

    def _add_parameters(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        known = model.input_shape.members if model.input_shape else ()
        for name, value in self.parameters().items():
            if name in known:
                params.setdefault(name, value)


NO_OPTIONS: Final = RequestOptions()
"""The bucket decides on the encryption, and its owner pays."""


def set_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the options that are set, for another process's environment."""
    return {name: environ[name] for name in VARIABLES if environ.get(name)}


def _parse_bool(name: str, value: str) -> bool | None:
    if not value:
        return None
    if value.lower() not in (*_TRUE, *_FALSE):
        or_requester = ', or "requester"' if name == PAYER else ""
        raise StorageError(f"{name} must be 1 or 0{or_requester}. Received: {name}={value[:100]!r}")
    return value.lower() in _TRUE
