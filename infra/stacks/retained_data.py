"""The bucket and the repository, which remain after the stacks: deletes them and their content."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from keepfit.infra.aws import AwsError, code_of, explain_errors


def empty_bucket(s3: Any, bucket: str) -> int:
    """Delete all objects, versions and unfinished uploads; return the number of versions.

    Raises:
        AwsError: an object could not be deleted.
    """
    deleted = 0
    with explain_errors(f"bucket {bucket} can't be emptied"):
        for upload in _uploads(s3, bucket):
            s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        for versions in _versions(s3, bucket):
            request = {"Objects": versions, "Quiet": True}
            failed = s3.delete_objects(Bucket=bucket, Delete=request).get("Errors")
            if failed:
                first = failed[0]
                raise AwsError(
                    f"bucket {bucket} can't be emptied: {len(failed)} objects were not deleted, "
                    f"{first['Key']}: {first.get('Message') or first.get('Code')}"
                )
            deleted += len(versions)
    return deleted


def delete_bucket(s3: Any, bucket: str) -> None:
    """Delete the empty bucket."""
    with explain_errors(f"bucket {bucket} was emptied, but can't be deleted"):
        s3.delete_bucket(Bucket=bucket)


def delete_repository(ecr: Any, uri: str) -> None:
    """Delete the repository with its images; it is no error if it does not exist."""
    name = uri.partition("/")[2]
    with explain_errors(f"repository {name} can't be deleted"):
        try:
            ecr.delete_repository(repositoryName=name, force=True)
        except ClientError as error:
            if code_of(error) != "RepositoryNotFoundException":
                raise


def _uploads(s3: Any, bucket: str) -> Iterator[dict[str, Any]]:
    for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
        yield from page.get("Uploads", ())


def _versions(s3: Any, bucket: str) -> Iterator[list[dict[str, str]]]:
    """Yield pages of at most 1000 versions: the number that one DeleteObjects request takes."""
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
        if found:
            yield [{"Key": v["Key"], "VersionId": v["VersionId"]} for v in found]
