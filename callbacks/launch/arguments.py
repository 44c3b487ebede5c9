"""The arguments of a script as they may be stored: without secrets, and bounded.

What is masked is not compared with the arguments of a later attempt: even a digest of a short
secret would tell it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from keepfit.callbacks.masking import HIDDEN, mask_urls

LONGEST = 512
"""Characters of an argument that is stored as it is."""

MOST = 200
"""Number of arguments that are stored one by one."""

_SHOWN = 64

_SECRET_PARTS = (
    *("password", "passwd", "passphrase", "secret", "credential", "authorization"),
    *("apikey", "accesskey", "privatekey", "accountkey"),
)
_VOCABULARY = (
    *("pad", "eos", "bos", "unk", "mask", "sep", "cls", "start", "stop", "end", "begin", "new"),
    *("special", "image", "audio", "text", "per", "first", "last", "next", "blank", "null"),
)
"""Words before `token` that make it a token of a text."""

_OPTION = re.compile(r"--?[A-Za-z][\w.-]*(=.*)?", re.DOTALL)
_NAME = re.compile(r"(--?|\+\+?|~)?[A-Za-z_][\w.-]*")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_HEADER = re.compile(
    r"\b(bearer\s+|authorization['\"]?\s*[:=]\s*['\"]?\w+\s+)[^\s'\"]+", re.IGNORECASE
)
_PAIR = re.compile(r"([A-Za-z_][\w.-]*)(['\"]?\s*[:=]\s*)('[^']*'|\"[^\"]*\"|[^\s'\",;&}]+)")


def storable(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the arguments without secrets; a digest takes the place of what is too long."""
    shown = [_shortened(_encodable(argument)) for argument in _masked(arguments)]
    if len(shown) <= MOST:
        return tuple(shown)
    kept, rest = shown[: MOST - 1], shown[MOST - 1 :]
    return (*kept, f"… ({len(rest)} more arguments, sha256:{_digest(chr(0).join(rest))})")


def has_secret(arguments: Sequence[str]) -> bool:
    """Return whether one of the arguments, or a part of it, is secret."""
    return _masked(arguments) != list(arguments)


def is_secret(name: str) -> bool:
    """Return whether an option or variable of this name has a secret as its value."""
    words = [word.lower() for word in _WORD.findall(name)]
    joined = "".join(words)
    if any(part in joined for part in _SECRET_PARTS) or "pwd" in words:
        return True
    if not words or not words[-1].endswith("token"):
        return False
    before = words[-1].removesuffix("token") or (words[-2] if len(words) > 1 else "")
    return before not in _VOCABULARY


def _masked(arguments: Sequence[str]) -> list[str]:
    found = []
    is_value = False
    for argument in arguments:
        if is_value and not _OPTION.fullmatch(argument):
            found.append(HIDDEN)
            is_value = False
            continue
        name, equals, _ = argument.partition("=")
        is_named = _NAME.fullmatch(name) is not None and is_secret(name)
        is_value = is_named and not equals and name.startswith("-")
        found.append(f"{name}={HIDDEN}" if is_named and equals else _masked_text(argument))
    return found


def _masked_text(text: str) -> str:
    """Mask what is secret within one argument: a URL, a header, or a line of JSON."""
    text = _HEADER.sub(rf"\1{HIDDEN}", mask_urls(text))
    return _PAIR.sub(lambda m: f"{m[1]}{m[2]}{HIDDEN}" if is_secret(m[1]) else m[0], text)


def _encodable(text: str) -> str:
    """Replace the bytes of a file name that are no text: JSON can't contain them."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _shortened(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    return f"{text[:_SHOWN]}… ({len(text)} characters, sha256:{_digest(text)})"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
