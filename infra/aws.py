"""Clients of AWS services, and one-line errors for their failures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - the base of botocore's connection errors
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
)
from botocore.loaders import Loader, create_loader
from botocore.parsers import ResponseParserError

from keepfit.callbacks.masking import one_line

_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
_UNKNOWN_KEY = frozenset(
    {"InvalidClientTokenId", "UnrecognizedClientException", "AuthFailure", "InvalidAccessKeyId"}
)

_ONLY_IN = {"pricing": "us-east-1"}
"""Services that exist in one region only, and that region."""


class AwsError(Exception):
    """A request to AWS failed; the message is one line with the resource, the cause and the fix."""


class AwsUnreachable(AwsError):
    """AWS did not answer, or throttled the request; a retry may help."""


def client(service: str, region: str | None = None) -> Any:
    """Create a client; region, profile and credentials are resolved as by every AWS tool.

    Args:
        region: replaces the configured region.

    Raises:
        AwsError: the configuration can't be used.
    """
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 4},
        connect_timeout=5,
        read_timeout=30,
        user_agent_extra=f"keepfit/{version('keepfit')}",
    )
    # botocore reads AWS_DEFAULT_REGION only; every other SDK reads AWS_REGION.
    region = region or _ONLY_IN.get(service) or os.environ.get("AWS_REGION") or None
    with explain_errors(f"{service} can't be used"):
        session = botocore.session.Session()
        loader = _loader(session.get_config_variable("data_path"))
        session.register_component("data_loader", loader)
        return session.create_client(service, region_name=region, config=config)


@cache
def _loader(data_path: str | None) -> Loader:
    """Return the loader of the services' models, which a second client need not parse again."""
    return create_loader(data_path)


@contextmanager
def explain_errors(what: str) -> Iterator[None]:
    """Turn boto3's errors within the block into one line that begins with `what`.

    The caller catches within the block an error code that it can handle better.

    Raises:
        AwsError: the request can't succeed.
        AwsUnreachable: the request may succeed later.
    """
    try:
        yield
    except ClientError as error:
        raise _of_answer(error, what) from error
    except NoRegionError:
        raise AwsError(
            f"{what}: no region is set; set AWS_REGION or the profile's region"
        ) from None
    except (NoCredentialsError, PartialCredentialsError, ProfileNotFound) as error:
        raise AwsError(
            f"{what}: no AWS credentials were found ({one_line(error)}); set AWS_PROFILE, "
            f"or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or log in"
        ) from error
    except (ConnectionError, HTTPClientError, CredentialRetrievalError) as error:
        raise AwsUnreachable(f"{what}: AWS was not reached: {one_line(error)}") from error
    except ResponseParserError as error:
        # The error's text contains the whole response, often a proxy's page.
        raise AwsUnreachable(f"{what}: the response is not from AWS, or is malformed") from error
    except BotoCoreError as error:
        raise AwsError(f"{what}: {one_line(error)}") from error


def code_of(error: ClientError) -> str:
    """Return AWS' code of the error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _of_answer(error: ClientError, what: str) -> AwsError:
    code = code_of(error)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    message = one_line(error)
    if code in _DENIED:
        return AwsError(
            f"{what}: {error.operation_name} is not allowed for these credentials ({message})"
        )
    if code in _EXPIRED:
        return AwsError(f"{what}: the AWS credentials have expired; log in again")
    if code in _UNKNOWN_KEY:
        return AwsError(f"{what}: AWS does not accept these credentials; check which are in use")
    if status >= 500 or "Throttl" in code or code == "TooManyRequestsException":
        return AwsUnreachable(f"{what}: {message}")
    return AwsError(f"{what}: {message}")
