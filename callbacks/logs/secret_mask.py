"""No event of the log contains a secret of a URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keepfit.callbacks.masking import mask_known_of


class SecretMask:
    """Masks the secrets of URLs in an event, tracebacks included, whatever has logged it.

    What is logged has no secret in it; this is the last line of defence, for the texts of errors.

    Args:
        environment: the present variables, whose URLs have secrets that must not be logged.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def __call__(self, _logger: Any, _method: str, event: Any) -> Any:
        return {name: self._masked(value) for name, value in event.items()}

    def _masked(self, value: Any) -> Any:
        match value:
            case None | bool() | int() | float():
                return value
            case str():
                return mask_known_of(self._environment, value)
            case Mapping():
                return {self._masked(key): self._masked(item) for key, item in value.items()}
            case list() | set() | frozenset():
                return [self._masked(item) for item in value]
            case tuple():
                return tuple(self._masked(item) for item in value)
        text = repr(value)
        masked = mask_known_of(self._environment, text)
        return value if masked == text else masked
