"""Immutable values of the standard library as JSON: dates, times, paths and complex numbers.

Each is decoded from its own text or numbers, so nothing in a store names a class to import.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

Json = Any

_PATHS: Mapping[str, type[PurePath]] = {
    "Path": Path,
    "PurePosixPath": PurePosixPath,
    "PureWindowsPath": PureWindowsPath,
}


def is_unicode(text: str) -> bool:
    """Return False if `text` contains a lone surrogate.

    Python represents file names that are not UTF-8 by lone surrogates.
    """
    return not any("\ud800" <= character <= "\udfff" for character in text)


def encode_plain(value: object) -> Json | None:
    """Return the value as JSON; None if it is of another type, a derived class included."""
    encoder = _ENCODERS.get(type(value))
    return encoder(value) if encoder else None


def decode_plain(form: str, content: Any) -> Any:
    """Return the value of one of PLAIN_FORMS. Raises TypeError, ValueError or OverflowError."""
    return _DECODERS[form](content)


def _encode_delta(value: timedelta) -> Json:
    return {"$timedelta": [value.days, value.seconds, value.microseconds]}


def _encode_zone(value: timezone) -> Json | None:
    offset, *name = value.__getinitargs__()  # type: ignore[attr-defined] # what copies use
    if not all(map(is_unicode, name)):
        return None
    return {"$timezone": [[offset.days, offset.seconds, offset.microseconds], *name]}


def _encode_moment(value: Any) -> Json | None:
    """Encode a datetime or a time; None if its time zone is of a class other than `timezone`."""
    zone = None
    if value.tzinfo is not None and (zone := encode_plain(value.tzinfo)) is None:
        return None
    text = value.replace(tzinfo=None).isoformat()
    return {f"${type(value).__name__}": [text, value.fold, zone]}


def _encode_path(value: PurePath) -> Json | None:
    text = str(value)
    kind = "Path" if isinstance(value, Path) else type(value).__name__
    return {"$path": [kind, text]} if is_unicode(text) else None


_ENCODERS: Mapping[type, Callable[[Any], Json | None]] = {
    complex: lambda value: {"$complex": [repr(value.real), repr(value.imag)]},
    date: lambda value: {"$date": value.isoformat()},
    datetime: _encode_moment,
    time: _encode_moment,
    timedelta: _encode_delta,
    timezone: _encode_zone,
    type(Path()): _encode_path,
    PurePosixPath: _encode_path,
    PureWindowsPath: _encode_path,
}


def _decode_moment(kind: type[Any], content: Any) -> Any:
    text, fold, zone = content
    tzinfo = None if zone is None else _decode_zone(zone["$timezone"])
    moment = kind.fromisoformat(text)
    if moment.tzinfo is not None:
        raise ValueError("a time zone stands in the text of a moment")
    return moment.replace(fold=fold, tzinfo=tzinfo)


def _decode_zone(content: Any) -> timezone:
    offset, *name = content
    return timezone(timedelta(*offset), *name)


def _decode_path(content: Any) -> PurePath:
    kind, text = content
    if not isinstance(text, str) or kind not in _PATHS:
        raise ValueError("a path consists of its kind and its text")
    return _PATHS[kind](text)


def _decode_complex(content: Any) -> complex:
    real, imaginary = content
    return complex(float(real), float(imaginary))


_DECODERS: Mapping[str, Callable[[Any], Any]] = {
    "$complex": _decode_complex,
    "$date": date.fromisoformat,
    "$datetime": lambda content: _decode_moment(datetime, content),
    "$time": lambda content: _decode_moment(time, content),
    "$timedelta": lambda content: timedelta(*content),
    "$timezone": _decode_zone,
    "$path": _decode_path,
}

PLAIN_FORMS = frozenset(_DECODERS)
"""The keys of the JSON forms of these values."""
