"""Translate errors of S3 and botocore into the store's: transient or not, and with the fix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - the base of botocore's connection errors
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSLError,
)
from urllib3.exceptions import HTTPError

from keepfit.callbacks.masking import one_line
from keepfit.callbacks.storage.base import Conflict, Damaged, NotFound, StorageError, Transient
from keepfit.callbacks.storage.s3.address import Address
from keepfit.callbacks.storage.s3.denials import advice, key_advice, parse_denial
from keepfit.callbacks.storage.s3.options import KMS_KEY, NO_OPTIONS, SSE, RequestOptions

IAM_ACTIONS = {
    "put_object": "s3:PutObject",
    "create_multipart_upload": "s3:PutObject",
    "upload_part": "s3:PutObject",
    "complete_multipart_upload": "s3:PutObject",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "get_object": "s3:GetObject",
    "head_object": "s3:GetObject",
    "copy_object": "s3:PutObject",
    "copy": "s3:PutObject",
    "delete_object": "s3:DeleteObject",
    "list_objects_v2": "s3:ListBucket",
    "list_multipart_uploads": "s3:ListBucketMultipartUploads",
}
"""The IAM action that each operation needs."""

LONGEST_REASON = 600
"""Characters of S3's own message that are shown; the messages of AWS are shorter."""

_TRANSIENT = frozenset(
    {
        "SlowDown",
        "ServiceUnavailable",
        "InternalError",
        "RequestTimeout",
        "RequestTimeoutException",
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "BandwidthLimitExceeded",
        "OperationAborted",
        "ConditionalRequestConflict",
        "BadDigest",
        "XAmzContentChecksumMismatch",
        "XAmzContentSHA256Mismatch",
        "IncompleteBody",
        "NoSuchUpload",
        "KMS.ThrottlingException",
    }
)
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "403"})
_UNKNOWN_KEY = {
    "InvalidAccessKeyId": "the access key does not exist, or it is a temporary one without its "
    "AWS_SESSION_TOKEN",
    "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY is not that of the access key, or a proxy "
    "changes the requests",
    "InvalidToken": "AWS_SESSION_TOKEN is not that of the access key",
}
"""The usual causes why S3 does not accept credentials, by S3's code."""

_OTHER_FIXES = {
    "AllAccessDisabled": "AWS has disabled the account or the bucket; its owner can ask AWS",
    "AccountProblem": "AWS has disabled the account; its owner can ask AWS",
    "InvalidPayer": "AWS has disabled the account; its owner can ask AWS",
    "InvalidObjectState": "the object is archived; restore it, and exclude the store's prefix "
    "from the bucket's lifecycle rules",
}
"""The fixes of refusals that no policy and no key decides, by S3's code."""

_WRONG_REGION = frozenset({"PermanentRedirect", "IllegalLocationConstraintException", "301"})

BOTO_ERRORS = (BotoCoreError, ClientError, HTTPError, OSError)
"""All errors of botocore calls that S3, the network or the settings can cause."""


class Expired(Transient):
    """The credentials have expired; their provider may have newer ones."""


def translate_error(
    error: Exception,
    operation: str,
    address: Address,
    key: str,
    options: RequestOptions = NO_OPTIONS,
) -> StorageError:
    """Return the store's error for `error`; its message has the object, the cause and the fix."""
    where = f"{address.uri}/{key}" if key else address.uri
    if isinstance(error, ClientError):
        return _translate_response(error, operation, address, where, options)
    match error:
        case NoCredentialsError() | PartialCredentialsError() | ProfileNotFound():
            return StorageError(
                f"{where}: no AWS credentials were found ({error}); give the job a role, or set "
                f"AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        case ParamValidationError():
            return StorageError(f"{where} can't be requested: {one_line(error)}")
        case CredentialRetrievalError():
            return Expired(f"{where}: {one_line(error)}")
        case SSLError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return StorageError(
                f"{where}: the server's certificate is not trusted ({one_line(error)}); "
                f"name its authority in AWS_CA_BUNDLE"
            )
        case HTTPClientError() if "Invalid header value" in str(error):  # it has the secret
            return StorageError(
                f"{where} can't be requested: the AWS credentials or settings contain a line "
                f"break; check how AWS_ACCESS_KEY_ID and AWS_SESSION_TOKEN are set"
            )
        case FileNotFoundError() | PermissionError():
            return StorageError(f"{where} can't be requested: {one_line(error)}")
        case (
            ConnectionError() | HTTPClientError() | IncompleteReadError() | HTTPError() | OSError()
        ):
            return Transient(f"{where} was not reached: {one_line(error)}")
    if isinstance(error, ValueError) and "endpoint" in str(error):
        return StorageError(
            f"{where} can't be requested: {one_line(error)}; an endpoint is written "
            f"https://HOST:PORT, in AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL"
        )
    kind = type(error).__name__
    if kind in ("FlexibleChecksumError", "ResponseStreamingError", "ReadTimeoutError"):
        return Transient(f"{where} was not received completely: {one_line(error)}")
    return StorageError(f"{where}: {one_line(error)}")


def may_be_missing(error: Exception) -> bool:
    """Return whether the denial of a read may stand for an object that does not exist.

    S3 hides that from who may not list the bucket: it names s3:ListBucket, or no action at all. A
    denial that names another action (s3:GetObject, kms:Decrypt) is one.
    """
    if not isinstance(error, ClientError):
        return False
    refusal = Refusal.of(error.response)
    named = parse_denial(refusal.message, requested="").action
    return refusal.code in _DENIED and named in ("", "s3:ListBucket")


def _translate_response(
    error: Any, operation: str, address: Address, where: str, options: RequestOptions
) -> StorageError:
    refusal = Refusal.of(error.response)
    code, status, detail = refusal.code, refusal.status, refusal.detail
    if code == "NoSuchBucket":
        return StorageError(
            f"there is no bucket {address.bucket!r}: create it, or name another store"
        )
    if code == "PreconditionFailed" or status == 412:
        return Conflict(f"{where} was changed by another writer")
    if code == "InvalidRange" or status == 416:
        return Damaged(f"{where} is shorter than what was written")
    if code in ("NoSuchKey", "404") and operation != "complete_multipart_upload":
        return NotFound(f"{where} does not exist")
    if code in _EXPIRED:
        return Expired(f"{where}: the AWS credentials have expired ({detail}); renew them")
    if code in _TRANSIENT or (status >= 500 and status != 501):
        return Transient(f"{where}: S3 answered {detail}")
    if refusal.wrong_region:
        return StorageError(
            f"bucket {address.bucket!r} is in another region: "
            f"set AWS_REGION={refusal.region or '…'} ({detail})"
        )
    return StorageError(f"{where}: {_explain(refusal, operation, address, options)}")


@dataclass(frozen=True)
class Refusal:
    """S3's answer that it does not do the request.

    Attributes:
        message: S3's own text, in one line.
        region: the bucket's region, if S3 names it.
    """

    code: str
    message: str
    status: int
    region: str

    @classmethod
    def of(cls, response: Mapping[str, Any]) -> Self:
        """Return the refusal that botocore has parsed."""
        error, metadata = response.get("Error", {}), response.get("ResponseMetadata", {})
        region = metadata.get("HTTPHeaders", {}).get("x-amz-bucket-region") or error.get("Region")
        message = " ".join(str(error.get("Message") or "").split())
        if len(message) > LONGEST_REASON:
            message = f"{message[:LONGEST_REASON]}…"
        return cls(
            str(error.get("Code", ""))[:LONGEST_REASON],
            message,
            int(metadata.get("HTTPStatusCode") or 0),
            str(region or "")[:LONGEST_REASON],
        )

    @property
    def detail(self) -> str:
        """The reason as S3 gives it: code and message."""
        return f"{self.code}: {self.message}".strip(": ") or str(self.status)

    @property
    def wrong_region(self) -> bool:
        """True if the request was sent to another region than the bucket's."""
        malformed = self.code == "AuthorizationHeaderMalformed"
        about_region = bool(self.region) or "region" in self.message.lower()
        return self.code in _WRONG_REGION or (malformed and about_region)

    @property
    def denied(self) -> bool:
        """True if a policy does not allow the request."""
        return self.code in _DENIED or self.status == 403


def _explain(refusal: Refusal, operation: str, address: Address, options: RequestOptions) -> str:
    """Return cause and fix of an error that no retry can fix."""
    code, detail = refusal.code, refusal.detail
    if code in _UNKNOWN_KEY:
        return (
            f"S3 does not accept the AWS credentials ({detail}); check which are in use: "
            f"{_UNKNOWN_KEY[code]}"
        )
    if code == "RequestTimeTooSkewed":
        return f"this machine's clock is wrong by more than 15 minutes; set it ({detail})"
    if code in _OTHER_FIXES:
        return f"S3 refused {operation} ({detail}): {_OTHER_FIXES[code]}"
    if code.startswith("KMS."):
        return f"S3 can't use the KMS key ({detail}): {key_advice(code, options)}"
    if refusal.denied:
        denial = parse_denial(refusal.message, IAM_ACTIONS.get(operation, operation))
        return (
            f"access denied, {denial.action} is not allowed ({detail}). "
            f"{advice(denial, address, options)}"
        )
    if options.sse and "encryption" in f"{code} {refusal.message}".lower():
        return f"S3 refused the encryption ({detail}): check {SSE}={options.sse} and {KMS_KEY}"
    if code == "NotImplemented" or refusal.status == 501:
        return (
            f"this server does not support {operation} as requested ({detail}); "
            f"keepfit needs conditional writes (If-Match, If-None-Match)"
        )
    return f"S3 refused {operation}: {detail}"
