"""The credentials with which a container engine pushes to ECR."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any

from keepfit.infra.aws import AwsError, explain_errors


@dataclass(frozen=True)
class Credentials:
    """A user's name, and a password that is valid for twelve hours."""

    user: str
    password: str = field(repr=False)


def find_credentials(ecr: Any, repository: str) -> Credentials:
    """Return the credentials for the registry of a repository.

    Raises:
        AwsError: ECR gives none.
    """
    with explain_errors(f"the registry of {repository} can't be used"):
        data = ecr.get_authorization_token()["authorizationData"]
    try:
        text = base64.b64decode(data[0]["authorizationToken"], validate=True).decode()
        user, colon, password = text.partition(":")
    except (IndexError, binascii.Error, UnicodeDecodeError):
        colon = ""
    if not colon:
        raise AwsError(f"the registry of {repository} can't be used: ECR's token is malformed")
    return Credentials(user, password)
