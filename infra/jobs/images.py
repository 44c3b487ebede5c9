"""The image of a job: whether it exists, its digest, and a tag that keeps it from deletion."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from keepfit.infra.aws import AwsError, code_of, explain_errors

_OF_ECR = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?/"
    r"(?P<repository>[^:@]+)(:(?P<tag>[^@]+))?(@(?P<digest>sha256:[0-9a-f]+))?"
)
_MISSING = frozenset({"ImageNotFoundException", "RepositoryNotFoundException"})
_TAGGED = frozenset({"ImageAlreadyExistsException", "ImageTagAlreadyExistsException"})
_MANIFESTS = [
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
]
"""Forms of manifests, of which ECR returns the stored one: another would have another digest."""

_NOT_ALLOWED = frozenset({"AccessDeniedException", "AccessDenied"})


def region_of(image: str) -> str | None:
    """Return the region of an image in ECR; None for another registry, which can't be queried."""
    match = _OF_ECR.fullmatch(image)
    return match["region"] if match else None


@dataclass(frozen=True)
class Image:
    """The image of a job.

    Attributes:
        name: its name for the job, with its digest if that is known.
        digest: identifies the content, which a tag does not; None: not known.
        tags: its tags, if they are known.
        gap: why the digest is not known; None: it is.
    """

    name: str
    digest: str | None = None
    tags: frozenset[str] = frozenset()
    gap: str | None = None

    @property
    def own_tag(self) -> str:
        """The tag that keeps a repository's lifecycle rule from deleting the image."""
        return f"keepfit-{(self.digest or '').removeprefix('sha256:')[:12]}"


def find_image(ecr: Any, image: str) -> Image:
    """Return the image with its digest, so that each attempt has the same one.

    Args:
        ecr: a client of the image's region; not used for another registry, which can't be queried.

    Raises:
        AwsError: there is no such image.
    """
    match = _OF_ECR.fullmatch(image)
    if match is None:
        _, at, digest = image.rpartition("@")
        gap = None if at else "only images in ECR can be asked for their digest"
        return Image(image, digest if at else None, gap=gap)
    wanted = {"imageDigest": match["digest"]} if match["digest"] else {}
    wanted = wanted or {"imageTag": match["tag"] or "latest"}
    with explain_errors(f"image {image}"):
        try:
            answer = ecr.describe_images(
                registryId=match["account"], repositoryName=match["repository"], imageIds=[wanted]
            )
        except ClientError as error:
            if code_of(error) in _MISSING:
                raise AwsError(
                    f"there is no image {image}: build it with scripts/image and push it with "
                    f"`keepfit push`, or name another one with --image"
                ) from error
            if code_of(error) not in _NOT_ALLOWED:
                raise
            gap = f"{error.operation_name} is not allowed for these credentials"
            return Image(image, match["digest"], gap=None if match["digest"] else gap)
    found = answer["imageDetails"][0]
    digest = found["imageDigest"]
    repository = image[: match.end("repository")]
    return Image(f"{repository}@{digest}", digest, frozenset(found.get("imageTags", ())))


def keep_tagged(ecr: Any, image: Image) -> None:
    """Give an image in ECR a tag of its own; the repository expires images without a tag.

    Raises:
        AwsError: the image was not tagged.
    """
    match = _OF_ECR.fullmatch(image.name)
    if match is None or image.own_tag in image.tags:
        return
    place = {"registryId": match["account"], "repositoryName": match["repository"]}
    with explain_errors(f"image {image.name} was not tagged"):
        answer = ecr.batch_get_image(
            **place, imageIds=[{"imageDigest": image.digest}], acceptedMediaTypes=_MANIFESTS
        )
        if not answer["images"]:
            raise AwsError(f"image {image.name} was not tagged: ECR does not return its manifest")
        found = answer["images"][0]  # of one digest, so there is one manifest
        media_type = found.get("imageManifestMediaType")
        typed = {"imageManifestMediaType": media_type} if media_type else {}
        try:
            ecr.put_image(
                **place, **typed, imageManifest=found["imageManifest"], imageTag=image.own_tag
            )
        except ClientError as error:
            if code_of(error) not in _TAGGED:
                raise
