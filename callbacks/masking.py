"""Mask the secrets of URLs: a userinfo, and a query, often contain a password or a token.

Everything that may contain a URL is masked before it is logged, raised or stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote

HIDDEN = "***"

_SHORTEST_PASSWORD, _SHORTEST_VALUE = 4, 8
"""Characters of what is masked wherever it stands: a shorter value is a part of other words."""

_START = re.compile(r"(\\?[\"'`])?([A-Za-z][A-Za-z0-9+.-]*://)")
_OPEN_END = re.compile(r"[\s\"<>]")
_AUTHORITY = re.compile(r"[^/?#\\]*")
_PLACE = re.compile(r"(\[[^\]@]*\]|[^:@\[]*)(:\d*)?")
"""A host and a port: what is left of an authority without its userinfo."""

_REQUESTED = re.compile(r"(\burl: /[^\s?#]*)\?\S*", re.IGNORECASE)
"""The path of a request, as the errors of urllib3 name it."""


def mask_url(url: str) -> str:
    """Return the URL with `***` in place of its userinfo and its query.

    A fragment is masked if it follows a query, or contains `=` or `@`. A text that is no URL is
    returned as it is.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    userinfo, place, tail = _split(rest)
    shown = f"{HIDDEN}@" if userinfo else ""
    return f"{scheme}://{shown}{mask_urls(place)}{f'{tail[0]}{HIDDEN}' if tail else ''}"


def mask_urls(text: str) -> str:
    """Return any text with each URL in it masked; a URL ends at white space or its quote."""
    found, at = [], 0
    while match := _START.search(text, at):
        begin, end = match.start(2), _end_of_url(text, match)
        found += [text[at:begin], mask_url(text[begin:end])]
        at = end
    masked = "".join(found) + text[at:]
    return _REQUESTED.sub(rf"\1?{HIDDEN}", masked)


def one_line(error: BaseException) -> str:
    """Return the text of an error in one line, with its URLs masked; its class if it has none."""
    return mask_urls(" ".join(str(error).split())) or type(error).__name__


def mask_known(text: str, urls: Iterable[str]) -> str:
    """Return the text with its URLs masked, and the secrets of these URLs wherever they stand.

    The errors of HTTP libraries contain parts of the URL, such as a wrong port.
    """
    masked = mask_urls(text)
    known = {secret for url in urls for secret in _secrets_of(url)}
    for secret in sorted(known, key=len, reverse=True):
        masked = masked.replace(secret, HIDDEN)
    return masked


def without_secrets(url: str) -> str:
    """Return the URL without its userinfo and its query: a name of the place, in any attempt."""
    scheme, separator, rest = url.partition("://")
    _, place, _ = _split(rest if separator else scheme)
    return f"{scheme}://{place}" if separator else place


def without_userinfo(url: str) -> tuple[str, str]:
    """Return the URL without its userinfo, and the userinfo."""
    scheme, separator, rest = url.partition("://")
    userinfo, place, tail = _split(rest)
    return f"{scheme}{separator}{place}{tail}", userinfo


def has_secrets(url: str) -> bool:
    """Return whether the URL has a userinfo or a query."""
    userinfo, _, tail = _split(url.partition("://")[2])
    return bool(userinfo) or tail.startswith("?")


def mask_known_of(environment: Mapping[str, str], text: str) -> str:
    """Return the text without the secrets of any URL in the environment's variables.

    These are the addresses of proxies, which need no scheme, of endpoints, of watched URLs and of
    webhooks, of which a variable may have several.
    """
    urls = (
        url
        for name, value in environment.items()
        if "://" in value or name.lower().endswith("_proxy")
        for url in (value, *(part for part in value.split() if part != value))
    )
    return mask_known(text, urls)


def _split(rest: str) -> tuple[str, str, str]:
    """Split what follows `://` into the userinfo, the place, and the query or fragment.

    A password that is not encoded may contain the characters that end an authority.
    """
    authority = _AUTHORITY.match(rest)
    end = authority.end() if authority else 0
    at = rest.rfind("@", 0, end)
    if not _PLACE.fullmatch(rest[at + 1 : end]):
        at = rest.rfind("@")
    place = rest[at + 1 :]
    query, fragment = place.find("?"), place.find("#")
    if fragment >= 0 and not re.search(r"[?=@]", place[fragment:]):
        fragment = -1
    marks = [mark for mark in (query, fragment) if mark >= 0]
    cut = min(marks, default=len(place))
    return rest[: max(at, 0)], place[:cut], place[cut:]


def _end_of_url(text: str, match: re.Match[str]) -> int:
    """Return where the URL ends: at its closing quote, else at white space, `"`, `<` or `>`."""
    if quote := match[1]:
        closing = re.compile(rf"(?<!\\){re.escape(quote)}(?=$|[\s,:;.)\]}}>])|\n")
        if (closed := closing.search(text, match.end())) and closed[0] != "\n":
            return closed.start()
    found = _OPEN_END.search(text, match.end())
    return found.start() if found else len(text)


def _secrets_of(url: str) -> set[str]:
    """Return the userinfo, the password, the query and its values, as written and decoded."""
    userinfo, _, tail = _split(url.partition("://")[2] or url)
    password = userinfo.partition(":")[2]
    values = [pair.partition("=")[2] for pair in re.split(r"[&;#]", tail[1:])]
    found = [text for text in (userinfo, password, tail[1:]) if len(text) >= _SHORTEST_PASSWORD]
    found += [value for value in values if len(value) >= _SHORTEST_VALUE]
    return {form for text in found for form in (text, unquote(text))}
