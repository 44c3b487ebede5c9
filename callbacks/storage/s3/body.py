"""The body of an object, sent from the buffers in memory without a copy."""

from __future__ import annotations

import base64
import bisect
import hashlib
import io
from collections.abc import Iterator, Sequence
from typing import Any

from awscrt import checksums

from keepfit.callbacks.storage.base import Buffer

CHUNK = 256 << 10
"""Bytes passed to the socket at once; the time-out applies to each."""


class Body(io.RawIOBase):
    """The concatenation of buffers, or a part of it, as a seekable stream for botocore.

    `chunks` yields the bytes without a copy, for the connection; `read` copies them, for callers
    that need `bytes`.
    """

    def __init__(self, buffers: Sequence[Buffer], start: int = 0, end: int | None = None) -> None:
        super().__init__()
        self._buffers = [memoryview(b).cast("B") for b in buffers if memoryview(b).nbytes]
        self._starts = [0]
        for buffer in self._buffers:
            self._starts.append(self._starts[-1] + buffer.nbytes)
        self._start = start
        self._end = self._starts[-1] if end is None else end
        self._position = 0

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self._end - self._start

    def part(self, start: int, end: int) -> Body:
        """Return the part from `start` to before `end`, or to the end."""
        return Body(self._buffers, self._start + start, min(self._start + end, self._end))

    def chunks(self, position: int = 0) -> Iterator[memoryview]:
        """Yield the bytes from `position` on, in pieces of at most CHUNK bytes."""
        at = self._start + position
        while at < self._end:
            i = bisect.bisect_right(self._starts, at) - 1
            stop = min(at + CHUNK, self._starts[i + 1], self._end)
            yield self._buffers[i][at - self._starts[i] : stop - self._starts[i]]
            at = stop

    def sha256(self) -> str:
        """Return the SHA-256 in S3's encoding: base64."""
        sha = hashlib.sha256()
        for chunk in self.chunks():
            sha.update(chunk)
        return base64.b64encode(sha.digest()).decode()

    def crc64(self) -> int:
        """Return the CRC-64/NVME."""
        crc = 0
        for chunk in self.chunks():
            crc = checksums.crc64nvme(chunk, crc)
        return crc

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = min(max(base + offset, 0), self.size)
        return self._position

    def read(self, size: int = -1) -> bytes:
        wanted = self.size - self._position if size is None or size < 0 else size
        pieces: list[memoryview] = []
        for chunk in self.chunks(self._position):
            pieces.append(chunk[:wanted])
            wanted -= len(pieces[-1])
            if not wanted:
                break
        content = b"".join(pieces)
        self._position += len(content)
        return content

    def __len__(self) -> int:
        return self.size


class Chunks:
    """A body for the connection: it is iterated, where a connection would call `read`.

    Before botocore sends a request to the bucket's own region, it rewinds the body.
    """

    def __init__(self, body: Body) -> None:
        self._body = body

    def __iter__(self) -> Iterator[memoryview]:
        return self._body.chunks()

    def seek(self, offset: int) -> None:
        """Accept the rewind to the beginning, where each iteration starts."""
        if offset:
            raise io.UnsupportedOperation(f"a body is sent from its beginning, not from {offset}")


def send_chunks(request: Any, **_: Any) -> None:
    """Handle botocore's `before-send`: give the connection chunks where it would call `read`."""
    if isinstance(request.body, Body):
        request.body = Chunks(request.body)


def combined(crcs: Sequence[int], sizes: Sequence[int]) -> str:
    """Return the CRC-64/NVME of all parts together, in S3's encoding: base64, big-endian."""
    whole = crcs[0]
    for crc, size in zip(crcs[1:], sizes[1:], strict=True):
        whole = checksums.combine_crc64nvme(whole, crc, size)
    return base64.b64encode(whole.to_bytes(8, "big")).decode()
