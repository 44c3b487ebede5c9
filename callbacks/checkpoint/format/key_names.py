"""Names of objects and tensors, made from paths and texts of any length and script.

A name that is too long is shortened and ends with a digest of the whole, so that names stay
distinct. Short names of ASCII characters are used as they are.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from urllib.parse import quote

MAX_COMPONENT_BYTES = 180
"""Longest part of a key between two slashes. File systems allow 255, and a file:// store adds up to
42 for the name of a temporary file."""

MAX_NAME_BYTES = 512
"""Longest name of a file within a key. S3 allows 1024 bytes for a whole key, which also contains
the store's prefix and the run's name, of up to 128."""

_SAFE = " ()+=@"
_MARK = "!"
"""Precedes a digest. `quote` escapes it, so no quoted name contains it."""

_INCOMPLETE_ESCAPE = re.compile(r"%.?$")


def shorten(text: str, max_bytes: int) -> str:
    """Return the text, or if it is longer than `max_bytes` in UTF-8: its start and a digest."""
    content = text.encode("utf-8", "surrogatepass")
    if len(content) <= max_bytes:
        return text
    end = _digest_of(text)
    return content[: max_bytes - len(end)].decode("utf-8", "ignore") + end


def key_component(text: str, safe: str = "") -> str:
    """Return any text as one component of a key, of ASCII characters that every store accepts."""
    quoted = quote(text.encode("utf-8", "surrogatepass"), safe=safe)
    if len(quoted) <= MAX_COMPONENT_BYTES:
        return quoted
    end = _digest_of(text)
    return _cut(quoted, MAX_COMPONENT_BYTES - len(end)) + end


def key_from_path(path: str) -> str:
    """Return the path as part of a key.

    It has no root, no `..`, and no character that S3 or a file system does not accept.
    """
    parts = [key_component(part, _SAFE) for part in path.split("/") if part not in ("", ".")]
    name = "/".join("%2E%2E" if part == ".." else part for part in parts)
    return name if len(name) <= MAX_NAME_BYTES else _with_digest(name, path)


def keys_from_paths(paths: Iterable[str]) -> dict[str, str]:
    """Return the key of each path; distinct paths have distinct keys.

    `/a`, `a` and `./a` alone have the same key. Where they come together, a digest is added.
    """
    keys = {path: key_from_path(path) for path in paths}
    count = Counter(keys.values())
    return {p: k if count[k] == 1 else _with_digest(k, p) for p, k in keys.items()}


def _with_digest(name: str, path: str) -> str:
    """Return as much of the name as is allowed, with a digest of the path as its end."""
    end = _digest_of(path)
    start = _cut(name, MAX_NAME_BYTES - len(end))
    folder, slash, last = start.rpartition("/")
    return f"{folder}{slash}{_cut(last, MAX_COMPONENT_BYTES - len(end))}{end}"


def _cut(quoted: str, length: int) -> str:
    """Return the first `length` characters, without half an escape at the end."""
    return _INCOMPLETE_ESCAPE.sub("", quoted[:length])


def _digest_of(text: str) -> str:
    content = text.encode("utf-8", "surrogatepass")
    return _MARK + hashlib.sha256(content).hexdigest()[:32]
