"""Multipart uploads: an object too large for one request appears whole or not at all."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

from keepfit.callbacks.daemon_executor import DaemonExecutor
from keepfit.callbacks.storage.s3.body import Body, combined

MAX_SINGLE_PUT = 96 << 20
"""Bytes of the largest object that is sent in one request. A shard has 64 MiB unless one tensor is
larger, so most shards need no parts: one request each, several shards at once."""

PART = 64 << 20
"""Bytes of a part, except for objects of more than 625 GiB."""

MAX_PARTS = 10_000
"""Maximum number of parts (docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html)."""

MIB = 1 << 20

Request = Callable[..., Any]
"""Sends a request for the object, retried where that may help: `request(operation, **more)`."""


def part_size(size: int) -> int:
    """Return the size in bytes of each part, except the last, of an object of `size` bytes."""
    at_least = -(-size // MAX_PARTS)
    return max(PART, -(-at_least // MIB) * MIB)


def send(request: Request, body: Body, threads: int, *, with_checksums: bool) -> None:
    """Send the object in parallel parts; it appears with the last request.

    Raises:
        Conflict: an object with this key exists.
        StorageError: the object could not be sent; `clear_unfinished` removes the sent parts.
    """
    checksum = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"}
    upload = request("create_multipart_upload", **(checksum if with_checksums else {}))["UploadId"]
    parts = list(_parts(body))

    def send_part(numbered: tuple[int, Body]) -> tuple[dict[str, Any], int]:
        number, part = numbered
        crc = part.crc64() if with_checksums else 0
        check = {"ChecksumCRC64NVME": _base64(crc)} if with_checksums else {}
        response = request("upload_part", UploadId=upload, PartNumber=number, Body=part, **check)
        return {"ETag": response["ETag"], "PartNumber": number, **check}, crc

    with DaemonExecutor(threads, "keepfit-part") as pool:
        sent = list(pool.map(send_part, enumerate(parts, 1)))
    crcs = [crc for _, crc in sent]
    whole = {
        "ChecksumCRC64NVME": combined(crcs, [part.size for part in parts]),
        "ChecksumType": "FULL_OBJECT",
    }
    request(
        "complete_multipart_upload",
        UploadId=upload,
        MultipartUpload={"Parts": [part for part, _ in sent]},
        IfNoneMatch="*",
        **(whole if with_checksums else {}),
    )


def _parts(body: Body) -> Iterator[Body]:
    step = part_size(body.size)
    for start in range(0, body.size, step):
        yield body.part(start, start + step)


def _base64(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(8, "big")).decode()
