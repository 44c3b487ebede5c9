"""The image of a submitted job: pinned by its digest, and kept from deletion."""

from __future__ import annotations

from keepfit.callbacks import events
from keepfit.callbacks.logs.logger import get_logger
from keepfit.infra import aws
from keepfit.infra.jobs import images
from keepfit.infra.jobs.images import Image

log = get_logger()


def find_image(name: str) -> Image:
    """Return the image by its digest, if that can be known; a log line says if not.

    Raises:
        AwsError: there is no such image.
    """
    region = images.region_of(name)
    found = images.find_image(aws.client("ecr", region) if region else None, name)
    if found.gap:
        log.warning(
            events.IMAGE_NOT_PINNED,
            image=name,
            reason=f"{found.gap}, so a later attempt may pull another image of this name",
            fix="name the image by its digest: --image NAME@sha256:…",
        )
    return found


def keep_tagged(image: Image) -> None:
    """Give the image a tag of its own; a log line says if that is not possible."""
    region = images.region_of(image.name)
    if region is None or image.digest is None:
        return
    try:
        images.keep_tagged(aws.client("ecr", region), image)
    except aws.AwsError as error:
        log.warning(
            events.IMAGE_NOT_TAGGED,
            reason=f"{error}; the repository deletes an image 14 days after its last tag is gone",
            fix="allow ecr:BatchGetImage and ecr:PutImage, or keep a tag on the image",
        )
