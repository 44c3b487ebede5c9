"""How a setting is read: from an argument, else from its KEEPFIT_* variable, else its default.

Every process of `keepfit run` pays for this module, so it imports no library.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import field, fields
from enum import StrEnum
from typing import Any, Final, Self, TypeVar

from keepfit.callbacks.errors import ConfigurationError
from keepfit.callbacks.masking import mask_urls

PREFIX: Final = "KEEPFIT_"

_TRUE: Final = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE: Final = frozenset({"0", "false", "f", "no", "n", "off"})

Parser = Callable[[str, Any], Any]
"""Returns the value of a setting, given its name and an argument or the text of a variable.

Raises ConfigurationError with a line that ends with the received value.
"""

E = TypeVar("E", bound=StrEnum)


def setting(default: Any, parse: Parser, *, variable: str | None = None) -> Any:
    """Declare a field of a class of settings.

    Args:
        default: a value, or a function that returns it.
        variable: its environment variable; None: KEEPFIT_ and its name.
    """
    metadata = {"parse": parse, "variable": variable}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


class SettingValues:
    """The base of classes of settings, which are frozen dataclasses of `setting` fields."""

    @classmethod
    def resolve(cls, **given: Any) -> Self:
        """Return the settings in effect; a value of None counts as not given.

        Raises:
            ConfigurationError: a value can't be used; the message is one line that names it.
        """
        return cls(**cls.explicit(given, os.environ))

    @classmethod
    def explicit(cls, given: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
        """Return the settings that an argument or a variable gives.

        Raises:
            ConfigurationError: a value can't be used.
        """
        values = _by_upper_name(environ)
        found: dict[str, Any] = {}
        for each in fields(cls):  # type: ignore[arg-type] # a dataclass, as the class says
            value = given.get(each.name)
            if value is None:
                value = values.get(variable_of(each.name, each.metadata["variable"]))
            if value is not None:
                found[each.name] = each.metadata["parse"](each.name, value)
        return found

    @classmethod
    def variables(cls) -> frozenset[str]:
        """Return the names of the variables that keepfit defines for these settings."""
        return frozenset(
            variable_of(each.name, None)
            for each in fields(cls)  # type: ignore[arg-type] # as above
            if each.metadata["variable"] is None
        )


def variable_of(name: str, variable: str | None) -> str:
    """Return the environment variable of a setting."""
    return variable or f"{PREFIX}{name.upper()}"


def _by_upper_name(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by their names in upper case: their case does not matter."""
    exact = {name: value for name, value in environ.items() if name == name.upper()}
    return {name.upper(): value for name, value in environ.items()} | exact


def text(name: str, value: Any) -> str:
    """Return a text."""
    if not isinstance(value, str):
        raise unusable(name, value, "a text")
    return value


def flag(name: str, value: Any) -> bool:
    """Return whether a flag is on, in the usual words."""
    word = str(value).strip().lower()
    if word not in _TRUE | _FALSE:
        raise unusable(name, value, "1 or 0, true or false, yes or no, on or off")
    return word in _TRUE


def count(least: int) -> Parser:
    """Return a parser of whole numbers from `least` on."""

    def parse(name: str, value: Any) -> int:
        try:
            number = int(str(value))
        except ValueError:
            number = least - 1
        if number < least:
            raise unusable(name, value, f"a whole number, at least {least}")
        return number

    return parse


def choice(kind: type[E]) -> Parser:
    """Return a parser of the values of an enumeration."""

    def parse(name: str, value: Any) -> E:
        try:
            return kind(value)
        except ValueError:
            raise unusable(name, value, " or ".join(repr(str(one)) for one in kind)) from None

    return parse


def checked(check: Callable[[str], object]) -> Parser:
    """Return a parser of texts that `check` accepts; it raises ConfigurationError otherwise."""

    def parse(name: str, value: Any) -> str:
        check(text(name, value))
        return str(value)

    return parse


def unusable(name: str, value: object, expected: str) -> ConfigurationError:
    """Return the error for a value that can't be used; secrets in URLs are masked."""
    received = mask_urls(repr(value))
    return ConfigurationError(f"{name} must be {expected}. Received: {name}={received}")
