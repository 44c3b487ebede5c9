"""Checks whether an image can be pulled, as far as that is known before a machine tries."""

from __future__ import annotations

import re
from typing import Any

from botocore.exceptions import ClientError

from keepfit.infra.aws import AwsError, code_of, explain_errors

_OF_ECR = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?/"
    r"(?P<repository>[^:@]+)(:(?P<tag>[^@]+))?(@(?P<digest>sha256:[0-9a-f]+))?"
)
_MISSING = frozenset({"ImageNotFoundException", "RepositoryNotFoundException"})
_NOT_ALLOWED = frozenset({"AccessDeniedException", "AccessDenied"})


def region_of(image: str) -> str | None:
    """Return the region of an image in ECR; None for another registry, which can't be queried."""
    match = _OF_ECR.fullmatch(image)
    return match["region"] if match else None


def check_image(ecr: Any, image: str) -> None:
    """Check that an image in ECR exists.

    Without the permission to describe images it passes: the pull on the machine is then the check.

    Raises:
        AwsError: there is no such image.
    """
    match = _OF_ECR.fullmatch(image)
    if match is None:
        return
    wanted = {"imageDigest": match["digest"]} if match["digest"] else {}
    wanted = wanted or {"imageTag": match["tag"] or "latest"}
    with explain_errors(f"image {image}"):
        try:
            ecr.describe_images(
                registryId=match["account"], repositoryName=match["repository"], imageIds=[wanted]
            )
        except ClientError as error:
            if code_of(error) in _MISSING:
                raise AwsError(
                    f"there is no image {image}: build it with scripts/image, then tag and push "
                    f"it, or name another one with --image"
                ) from error
            if code_of(error) not in _NOT_ALLOWED:
                raise
