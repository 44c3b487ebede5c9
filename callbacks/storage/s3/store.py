"""S3 as a Store.

An object is sent with `If-None-Match: *`, and HEAD is swapped with `If-Match`; so S3 itself ensures
that a key is written once and that one of any number of writers wins. A lost answer is resolved by
reading back: no two writers ever write the same bytes to HEAD.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from threading import Lock
from typing import Any, Self, TypeVar

from keepfit.callbacks.storage.base import (
    AlreadyExists,
    Buffer,
    Conflict,
    Damaged,
    Entry,
    NotFound,
    StorageError,
    Transient,
    Version,
)
from keepfit.callbacks.storage.s3 import multipart
from keepfit.callbacks.storage.s3.address import Address
from keepfit.callbacks.storage.s3.body import Body
from keepfit.callbacks.storage.s3.client import make_client, wants_checksums
from keepfit.callbacks.storage.s3.errors import BOTO_ERRORS, translate_error
from keepfit.callbacks.storage.s3.retries import RetryPolicy

T = TypeVar("T")

THREADS = 8
"""Requests in flight for one object."""

RANGE = 32 << 20
"""Bytes per range request."""

READ = 1 << 20
"""Bytes read from the connection at once."""

MAX_SINGLE_COPY = 5 << 30
"""Bytes of the largest object that S3 copies in one request."""

REQUIRED_FIELDS = {
    "put_object": ("ETag",),
    "upload_part": ("ETag",),
    "get_object": ("ETag", "ContentLength"),
}
"""Fields of every complete answer. If one is missing, the connection broke within the headers:
botocore does not distinguish this from their end."""


class S3Store:
    """A store of objects below a prefix of a bucket, which must exist.

    Attributes:
        parallel: the number of objects that may usefully be sent at once.
    """

    parallel = THREADS

    def __init__(self, address: Address, make: Callable[[], Any], retries: RetryPolicy) -> None:
        self._address = address
        self._make = make
        self._retries = retries
        self._renewing = Lock()
        self._client = self._made()
        self._proven = False

    @classmethod
    def open(cls, uri: str, retries: RetryPolicy | None = None) -> Self:
        """Return the store at `uri`; nothing is read or written yet.

        Raises:
            ConfigurationError: `uri` is not an address in S3.
            StorageError: the AWS configuration can't be used.
        """
        retries = retries or RetryPolicy()
        return cls(Address.parse(uri), lambda: make_client(retries), retries)

    @property
    def uri(self) -> str:
        return self._address.uri

    def put(self, key: str, body: Sequence[Buffer], *, digest: str | None = None) -> None:
        whole = Body(body)

        def send(tries: int) -> None:
            try:
                self._put(key, whole, digest)
            except Conflict:
                if tries == 1 or not self._holds(key, whole):
                    raise AlreadyExists(f"{self.uri}/{key} exists already") from None

        self._trying(send)

    def swap(self, key: str, body: bytes, *, expected: Version | None) -> Version:
        def swap(tries: int) -> Version:
            try:
                return self._swap(key, body, expected)
            except (Conflict, NotFound):
                if tries > 1 and (found := self._version_of(key, body)):
                    return found
                raise Conflict(f"{self.uri}/{key} was changed by another writer") from None

        version = self._trying(swap)
        if not self._proven:
            self._prove_conditions(key, body)
        return version

    def load(self, key: str) -> tuple[bytes, Version]:
        return self._trying(lambda _: self._load(key))

    def read_into(self, key: str, into: memoryview) -> None:
        ranges = [(at, min(at + RANGE, into.nbytes)) for at in range(0, into.nbytes, RANGE)]
        if not ranges:
            self._read_nothing(key)
        elif len(ranges) == 1:
            self._read_range(key, into, *ranges[0])
        else:
            with ThreadPoolExecutor(THREADS, "keepfit-range") as pool:
                list(pool.map(lambda span: self._read_range(key, into, *span), ranges))

    def list(self, prefix: str) -> Iterator[Entry]:
        ours = len(self._address.prefix)
        for page in self._pages(prefix):
            for found in page.get("Contents", ()):
                yield Entry(found["Key"][ours:], found["Size"])

    def folders(self, prefix: str) -> Iterator[str]:
        ours = len(self._address.key(prefix))
        for page in self._pages(prefix, Delimiter="/"):
            for found in page.get("CommonPrefixes", ()):
                yield found["Prefix"][ours:].rstrip("/")

    def delete(self, key: str) -> None:
        with suppress(NotFound):
            self._ask_again("delete_object", key)

    def clear_unfinished(self, prefix: str) -> None:
        more: dict[str, Any] = {"Prefix": self._address.key(prefix)}
        while True:
            page = self._ask_again("list_multipart_uploads", "", **more)
            for upload in page.get("Uploads", ()):
                key = upload["Key"][len(self._address.prefix) :]
                with suppress(NotFound):
                    self._ask_again("abort_multipart_upload", key, UploadId=upload["UploadId"])
            if not page.get("IsTruncated"):
                return
            more["KeyMarker"] = page["NextKeyMarker"]
            more["UploadIdMarker"] = page["NextUploadIdMarker"]

    def move(self, source: str, target: str) -> None:
        """Copy everything, then delete HEAD first: a crash leaves the old run, or none.

        An object that the last attempt prunes meanwhile may be gone; nothing needs it.
        """
        if next(self.list(f"{target}/"), None):
            raise AlreadyExists(f"{self.uri}/{target} exists already")
        found = list(self.list(f"{source}/"))
        for entry in found:
            with suppress(NotFound):
                self._copy(entry, target + entry.key.removeprefix(source))
        for entry in sorted(found, key=lambda entry: entry.key):
            self.delete(entry.key)

    def _put(self, key: str, body: Body, digest: str | None) -> None:
        if body.size > multipart.MAX_SINGLE_PUT:

            def ask(operation: str, **more: Any) -> Any:
                once = operation == "complete_multipart_upload"
                return (self._ask if once else self._ask_again)(operation, key, **more)

            multipart.send(ask, body, THREADS, with_checksums=wants_checksums(self._client))
            return
        check = {}
        if wants_checksums(self._client):
            sha = base64.b64encode(bytes.fromhex(digest)).decode() if digest else body.sha256()
            check = {"ChecksumSHA256": sha}
        body.seek(0)
        self._ask("put_object", key, Body=body, IfNoneMatch="*", **check)

    def _swap(self, key: str, body: bytes, expected: Version | None) -> Version:
        condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected}
        return Version(self._ask("put_object", key, Body=body, **condition)["ETag"])

    def _prove_conditions(self, key: str, body: bytes) -> None:
        """Send two swaps that must fail; if they do, they have changed nothing.

        Raises:
            StorageError: this server ignores the conditions, so two attempts could not be kept
                apart.
        """
        for wrong in (None, Version('"00000000000000000000000000000000"')):
            with suppress(Conflict, NotFound):
                self._trying(lambda _, wrong=wrong: self._swap(key, body, wrong))  # type: ignore[misc]
                raise StorageError(
                    f"{self.uri}: this server ignores If-Match or If-None-Match, so keepfit can't "
                    f"keep two attempts of a run apart; use a server with conditional writes"
                )
        self._proven = True

    def _holds(self, key: str, body: Body) -> bool:
        """Return whether the object is `body`: a try whose answer was lost may have written it."""
        answer = self._ask("get_object", key, ChecksumMode="ENABLED")
        with closing(answer["Body"]) as stream:
            alike = answer["ContentLength"] == body.size and all(
                self._taken(key, stream, len(chunk)) == chunk for chunk in body.chunks()
            )
            self._taken(key, stream)  # to the end, where botocore checks the checksum
            return alike

    def _version_of(self, key: str, body: bytes) -> Version | None:
        """Return the version of the object if it is `body`, otherwise None."""
        try:
            content, version = self._load(key)
        except NotFound:
            return None
        return version if content == body else None

    def _load(self, key: str) -> tuple[bytes, Version]:
        answer = self._ask("get_object", key, ChecksumMode="ENABLED")
        # Not `with answer["Body"]`: it yields the raw stream, which checks no checksum.
        with closing(answer["Body"]) as stream:
            return self._taken(key, stream), Version(answer["ETag"])

    def _read_nothing(self, key: str) -> None:
        content, _ = self.load(key)
        if content:
            raise Damaged(f"{self.uri}/{key} has {len(content)} bytes instead of 0")

    def _read_range(self, key: str, into: memoryview, start: int, end: int) -> None:
        """Fill that part of `into`; after a broken connection, continue where it broke."""
        done = start

        def read(_: int) -> None:
            nonlocal done
            answer = self._ask("get_object", key, Range=f"bytes={done}-{end - 1}")
            size = int(answer.get("ContentRange", "/0").rpartition("/")[2])
            if size != into.nbytes:
                raise Damaged(f"{self.uri}/{key} has {size} bytes instead of {into.nbytes}")
            with closing(answer["Body"]) as stream:
                while done < end:
                    taken = self._filled(key, stream, into[done : min(done + READ, end)])
                    if not taken:
                        raise Transient(f"{self.uri}/{key} ended after {done} bytes")
                    done += taken

        self._trying(read)

    def _copy(self, entry: Entry, target: str) -> None:
        bucket = self._address.bucket
        source = {"Bucket": bucket, "Key": self._address.key(entry.key)}
        if entry.size <= MAX_SINGLE_COPY:
            self._ask_again("copy_object", target, CopySource=source)
        else:
            self._ask_again("copy", target, CopySource=source)

    def _pages(self, prefix: str, **more: Any) -> Iterator[Any]:
        more["Prefix"] = self._address.key(prefix)
        while True:
            page = self._ask_again("list_objects_v2", "", **more)
            yield page
            if not page.get("IsTruncated"):
                return
            more["ContinuationToken"] = page["NextContinuationToken"]

    def _trying(self, action: Callable[[int], T]) -> T:
        return self._retries.trying(action, self._renew)

    def _ask_again(self, operation: str, key: str, **more: Any) -> Any:
        """Send a request that may be repeated."""
        return self._trying(lambda _: self._ask(operation, key, **more))

    def _ask(self, operation: str, key: str, **more: Any) -> Any:
        if key:
            more["Key"] = self._address.key(key)
        if isinstance(body := more.get("Body"), Body):
            body.seek(0)
        try:
            answer = getattr(self._client, operation)(Bucket=self._address.bucket, **more)
        except BOTO_ERRORS as error:
            raise translate_error(error, operation, self._address, key) from error
        if lost := [name for name in REQUIRED_FIELDS.get(operation, ()) if name not in answer]:
            raise Transient(f"{self.uri}/{key}: the answer ended before its {lost[0]}")
        return answer

    def _taken(self, key: str, stream: Any, size: int | None = None) -> bytes:
        try:
            content: bytes = stream.read(size)
        except BOTO_ERRORS as error:
            raise translate_error(error, "get_object", self._address, key) from error
        return content

    def _filled(self, key: str, stream: Any, into: memoryview) -> int:
        try:
            count: int = stream.readinto(into)
        except BOTO_ERRORS as error:
            raise translate_error(error, "get_object", self._address, key) from error
        return count

    def _renew(self) -> None:
        """Create a new client, which asks the credential providers again."""
        with self._renewing:
            self._client = self._made()

    def _made(self) -> Any:
        try:
            return self._make()
        except (*BOTO_ERRORS, ValueError) as error:
            raise translate_error(error, "", self._address, "") from error
