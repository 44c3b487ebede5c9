"""Translate errors of S3 and botocore into the store's: transient or not, and with the fix."""

from __future__ import annotations

import json
from typing import Any

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

from keepfit.callbacks.masking import mask_urls
from keepfit.callbacks.storage.base import Conflict, Damaged, NotFound, StorageError, Transient
from keepfit.callbacks.storage.s3.address import Address

IAM_ACTIONS = {
    "put_object": "s3:PutObject",
    "create_multipart_upload": "s3:PutObject",
    "upload_part": "s3:PutObject",
    "complete_multipart_upload": "s3:PutObject",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "get_object": "s3:GetObject",
    "copy_object": "s3:PutObject",
    "copy": "s3:PutObject",
    "delete_object": "s3:DeleteObject",
    "list_objects_v2": "s3:ListBucket",
    "list_multipart_uploads": "s3:ListBucketMultipartUploads",
}
"""The IAM action that each operation needs."""

_BUCKET_OPERATIONS = frozenset({"s3:ListBucket", "s3:ListBucketMultipartUploads"})

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
    }
)
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_DENIED = frozenset({"AccessDenied", "AllAccessDisabled", "403"})
_UNKNOWN_KEY = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken"})
_WRONG_REGION = frozenset({"PermanentRedirect", "AuthorizationHeaderMalformed", "301"})

BOTO_ERRORS = (BotoCoreError, ClientError, HTTPError, OSError)
"""All errors of botocore calls that S3, the network or the settings can cause."""


class Expired(Transient):
    """The credentials have expired; their provider may have newer ones."""


def translate_error(error: Exception, operation: str, address: Address, key: str) -> StorageError:
    """Return the store's error for `error`; its message has the object, the cause and the fix."""
    where = f"{address.uri}/{key}" if key else address.uri
    if isinstance(error, ClientError):
        return _translate_response(error, operation, address, where)
    match error:
        case NoCredentialsError() | PartialCredentialsError() | ProfileNotFound():
            return StorageError(
                f"{where}: no AWS credentials were found ({error}); give the job a role, or set "
                f"AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        case ParamValidationError():
            return StorageError(f"{where} can't be requested: {_one_line(error)}")
        case CredentialRetrievalError():
            return Expired(f"{where}: {_one_line(error)}")
        case SSLError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return StorageError(
                f"{where}: the server's certificate is not trusted ({_one_line(error)}); "
                f"name its authority in AWS_CA_BUNDLE"
            )
        case HTTPClientError() if "Invalid header value" in str(error):  # it has the secret
            return StorageError(
                f"{where} can't be requested: the AWS credentials or settings contain a line "
                f"break; check how AWS_ACCESS_KEY_ID and AWS_SESSION_TOKEN are set"
            )
        case FileNotFoundError() | PermissionError():
            return StorageError(f"{where} can't be requested: {_one_line(error)}")
        case (
            ConnectionError() | HTTPClientError() | IncompleteReadError() | HTTPError() | OSError()
        ):
            return Transient(f"{where} was not reached: {_one_line(error)}")
    if isinstance(error, ValueError) and "endpoint" in str(error):
        return StorageError(
            f"{where} can't be requested: {_one_line(error)}; an endpoint is written "
            f"https://HOST:PORT, in AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL"
        )
    kind = type(error).__name__
    if kind in ("FlexibleChecksumError", "ResponseStreamingError", "ReadTimeoutError"):
        return Transient(f"{where} was not received completely: {_one_line(error)}")
    return StorageError(f"{where}: {_one_line(error)}")


def _translate_response(error: Any, operation: str, address: Address, where: str) -> StorageError:
    response: Any = error.response
    code = str(response.get("Error", {}).get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    detail = f"{code}: {response.get('Error', {}).get('Message', '')}".strip(": ")
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
        return Transient(f"{where}: S3 answered {detail or status}")
    return StorageError(_refusal_message(code, status, detail, operation, address, where, response))


def _refusal_message(
    code: str, status: int, detail: str, operation: str, address: Address, where: str, response: Any
) -> str:
    """Return the message for an error that no retry can fix."""
    if code in _DENIED or (status == 403 and code not in _UNKNOWN_KEY and "Skew" not in code):
        action = IAM_ACTIONS.get(operation, operation)
        return (
            f"{where}: access denied, {action} is not allowed. "
            f"The job's role needs: {_statement(action, address)}"
        )
    if code in _UNKNOWN_KEY:
        return f"{where}: S3 does not accept the AWS credentials ({detail}); check which are in use"
    if code in _WRONG_REGION:
        headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        region = headers.get("x-amz-bucket-region") or response.get("Error", {}).get("Region")
        return f"bucket {address.bucket!r} is in another region: set AWS_REGION={region or '…'}"
    if code == "RequestTimeTooSkewed":
        return f"{where}: this machine's clock is wrong by more than 15 minutes; set it ({detail})"
    if code == "NotImplemented" or status == 501:
        return (
            f"{where}: this server does not support {operation} as requested ({detail}); "
            f"keepfit needs conditional writes (If-Match, If-None-Match)"
        )
    return f"{where}: S3 refused {operation}: {detail or status}"


def _statement(action: str, address: Address) -> str:
    """Return the policy statement that allows `action`."""
    bucket = f"arn:aws:s3:::{address.bucket}"
    if action in _BUCKET_OPERATIONS:
        return json.dumps({"Effect": "Allow", "Action": action, "Resource": bucket})
    # Without ListBucket, S3 answers 403 instead of 404 for an object that does not exist.
    actions = [action, "s3:ListBucket"] if action == "s3:GetObject" else [action]
    resources = [f"{bucket}/{address.prefix}*", *([bucket] if len(actions) > 1 else [])]
    return json.dumps({"Effect": "Allow", "Action": actions, "Resource": resources})


def _one_line(error: BaseException) -> str:
    return mask_urls(" ".join(str(error).split())) or type(error).__name__
