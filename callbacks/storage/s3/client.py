"""The S3 client: configured as by every AWS tool, with retries of keepfit's own only."""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import Any

import boto3
import botocore.session
from botocore.config import Config

from keepfit.callbacks.storage.s3.body import send_chunks
from keepfit.callbacks.storage.s3.options import NO_OPTIONS, RequestOptions
from keepfit.callbacks.storage.s3.retries import RetryPolicy

CONNECTIONS = 32
"""Connections kept open at most; more than all threads of keepfit use."""


def make_client(retries: RetryPolicy, options: RequestOptions = NO_OPTIONS) -> Any:
    """Create a boto3 client that sends a Body without a copy, and tries each request once.

    Endpoint, region, profile and credentials come from the environment, the AWS configuration
    files or the machine's role.

    Args:
        options: sent with every request.

    Raises:
        botocore.exceptions.BotoCoreError: the configuration can't be used.
    """
    session = botocore.session.Session()
    # All other SDKs read AWS_REGION; botocore reads another variable.
    if region := os.environ.get("AWS_REGION"):
        session.set_config_variable("region", region)
    style = session.get_scoped_config().get("s3", {}).get("addressing_style")
    config = Config(
        retries={"total_max_attempts": 1},
        connect_timeout=retries.connect,
        read_timeout=retries.read,
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
        # Every object that is read is checked against a digest of our own.
        response_checksum_validation="when_required",
        # A checksum of each body is among the signed headers, so it need not be hashed again.
        s3={"payload_signing_enabled": False} | ({"addressing_style": style} if style else {}),
        user_agent_extra=f"keepfit/{version('keepfit')}",
    )
    client = boto3.session.Session(botocore_session=session).client("s3", config=config)
    client.meta.events.register("before-send.s3", send_chunks)
    client.meta.events.register("before-parameter-build.s3", stop_at_redirects)
    options.apply_to(client)
    return client


def stop_at_redirects(model: Any, context: dict[str, Any], **_: Any) -> None:
    """Handle botocore's `before-parameter-build`: don't let it redirect its own HeadBucket.

    That is how botocore looks up the region of a bucket to which S3 redirects. A server or a proxy
    that redirects everything and names no region would be asked again without end.
    """
    if model.name == "HeadBucket":
        context.setdefault("s3_redirect", {})["redirected"] = True


def wants_checksums(client: Any) -> bool:
    """Return whether to send checksums that S3 does not require.

    The user decides by AWS_REQUEST_CHECKSUM_CALCULATION.
    """
    return bool(client.meta.config.request_checksum_calculation != "when_required")
