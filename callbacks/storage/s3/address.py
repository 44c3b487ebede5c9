"""Addresses in S3: a bucket, and the prefix of a store's keys."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self
from unicodedata import category

from keepfit.callbacks.errors import ConfigurationError
from keepfit.callbacks.masking import mask_url
from keepfit.callbacks.storage.base import MAX_KEY_BYTES, StorageError

_BUCKET = re.compile(r"(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True)
class Address:
    """A bucket, and the prefix of all keys of the store: empty, or ending with `/`."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Parse the URI of a store.

        Raises:
            ConfigurationError: `uri` is not `s3://BUCKET` or `s3://BUCKET/PREFIX`.
        """
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not _BUCKET.fullmatch(bucket):
            raise ConfigurationError(
                "an S3 store is written s3://BUCKET/PREFIX, and a bucket's name has 3 to 63 "
                f"lower-case letters, digits, dots and hyphens. Received: store={mask_url(uri)!r}"
            )
        parts = prefix.strip("/").split("/") if prefix.strip("/") else []
        invalid = any(category(character) in ("Cc", "Cs") for character in prefix)
        if invalid or any(part in ("", ".", "..") for part in parts):
            raise ConfigurationError(
                "a store's prefix has no empty part, no '.', no '..' and no control character. "
                f"Received: store={mask_url(uri)!r}"
            )
        return cls(bucket, "".join(f"{part}/" for part in parts))

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def key(self, key: str) -> str:
        """Return the full key of an object of the store.

        Raises:
            StorageError: `key` is not valid, or the full key is too long.
        """
        if "\0" in key or key.startswith("/") or ".." in key.split("/"):
            raise StorageError(f"{key!r} is not a valid key of {self.uri}")
        full_key = self.prefix + key
        if len(full_key.encode(errors="surrogatepass")) > MAX_KEY_BYTES:
            raise StorageError(
                f"{self.uri}/{key} is longer than the {MAX_KEY_BYTES} bytes of a key"
            )
        return full_key


@dataclass(frozen=True)
class Object:
    """The address of one object: its bucket and its key."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """Parse the URL of an object.

        Raises:
            ConfigurationError: `url` is not `s3://BUCKET/KEY`.
        """
        address = Address.parse(url)
        if not address.prefix:
            raise ConfigurationError(
                f"a file in S3 is written s3://BUCKET/KEY. Received: {mask_url(url)!r}"
            )
        return cls(address.bucket, address.prefix.rstrip("/"))

    @property
    def address(self) -> Address:
        return Address(self.bucket, "")
