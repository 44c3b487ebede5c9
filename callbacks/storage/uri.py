"""The address of a store."""

from __future__ import annotations

from keepfit.callbacks.errors import ConfigurationError
from keepfit.callbacks.masking import has_secrets, mask_url
from keepfit.callbacks.storage.s3.address import Address


def check_uri(uri: str) -> None:
    """Raise ConfigurationError if `uri` is not the URI of a store, or may contain a secret."""
    scheme, _, path = uri.partition("://")
    # A path may contain any character; only its first part could be meant as a userinfo.
    if has_secrets(uri) if scheme != "file" else "@" in path.partition("/")[0]:
        raise ConfigurationError(
            "a store's address has no user, password or query: credentials for S3 come from a "
            "role, AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and a folder with "
            f"'@' in its name is written file://./NAME. Received: store={mask_url(uri)!r}"
        )
    if scheme == "s3":
        Address.parse(uri)
    elif scheme != "file" or not path or "\0" in path:
        raise ConfigurationError(
            "a store is written s3://BUCKET/PREFIX or file://PATH, for example file://./runs. "
            f"Received: store={mask_url(uri)!r}"
        )
