"""The state of random generators of NumPy and Python: plain numbers, checked before it is set."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np

from keepfit.callbacks.checkpoint.format.codec import Tagged
from keepfit.callbacks.checkpoint.format.state_schema import InvalidState

NUMPY, LEGACY, BITS, PYTHON = "Generator", "RandomState", "BitGenerator", "Random"

_BIT_GENERATORS: Mapping[str, type[np.random.BitGenerator]] = {
    kind.__name__: kind
    for kind in (
        np.random.MT19937,
        np.random.PCG64,
        np.random.PCG64DXSM,
        np.random.Philox,
        np.random.SFC64,
    )
}

_LIMITS = {"pos": 624, "buffer_pos": 4, "has_uint32": 1, "has_gauss": 1, "uinteger": (1 << 32) - 1}
"""The largest values of numbers that NumPy uses as indices or flags, and does not check."""

_PYTHON_WORDS = 625


def describe_generator(value: object) -> Tagged | None:
    """Return the state of a generator; None for any other value, a derived class included."""
    if type(value) is np.random.Generator and _is_known(value.bit_generator):
        return Tagged(NUMPY, _state_of(value.bit_generator))
    if type(value) is np.random.RandomState:
        return Tagged(LEGACY, value.get_state(legacy=False))
    if isinstance(value, np.random.BitGenerator) and _is_known(value):
        return Tagged(BITS, _state_of(value))
    if type(value) is random.Random:
        version, words, gauss = value.getstate()
        return Tagged(PYTHON, (version, np.array(words, np.uint32), gauss))
    return None


def check_generator(tagged: Tagged) -> None:
    """Check the state of a generator from a store. Raises InvalidState."""
    try:
        new_generator(tagged)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError) as error:
        raise InvalidState(f"the state of a {tagged.kind} is not valid: {error}") from error


def new_generator(tagged: Tagged) -> Any:
    """Return a new generator with this state, of one of the classes that are listed here."""
    if tagged.kind == PYTHON:
        unused = random.Random()  # noqa: S311 # nosec B311 # no secret depends on it
        unused.setstate(_python_state(tagged.content))
        return unused
    kind = _BIT_GENERATORS[tagged.content["bit_generator"]]
    bits = kind(0)
    if tagged.kind == LEGACY:
        legacy = np.random.RandomState(bits)
        _check_like(tagged.content, legacy.get_state(legacy=False))
        legacy.set_state(tagged.content)
        return legacy
    _check_like(tagged.content, _state_of(bits))
    bits.state = tagged.content
    return np.random.Generator(bits) if tagged.kind == NUMPY else bits


def is_same_kind(present: Any, tagged: Tagged) -> bool:
    """Return whether a generator of the script can be set to a checked state."""
    own = describe_generator(present)
    if own is None or own.kind != tagged.kind:
        return False
    name = "bit_generator"
    return own.kind == PYTHON or bool(own.content[name] == tagged.content[name])


def set_generator(present: Any, tagged: Tagged) -> None:
    """Set a generator of the script, which other objects may share, to a checked state."""
    match tagged.kind:
        case "Random":
            present.setstate(_python_state(tagged.content))
        case "RandomState":
            present.set_state(tagged.content)
        case "Generator":
            present.bit_generator.state = tagged.content
        case _:
            present.state = tagged.content


def _is_known(bits: np.random.BitGenerator) -> bool:
    return _BIT_GENERATORS.get(type(bits).__name__) is type(bits)


def _state_of(bits: np.random.BitGenerator) -> Any:
    return bits.state


def _python_state(content: Any) -> tuple[Any, ...]:
    version, words, gauss = content
    if not isinstance(words, np.ndarray) or words.dtype != np.uint32:
        raise ValueError("its words are not an array")
    if words.shape != (_PYTHON_WORDS,) or not isinstance(gauss, float | None):
        raise ValueError(f"it has {words.shape} words")
    return version, tuple(words.tolist()), gauss


def _check_like(content: Any, like: Any, name: str = "it") -> None:
    """Check that a state has the form of another one. Raises ValueError.

    NumPy itself reads outside its arrays after a position that is too large.
    """
    match like:
        case Mapping():
            if not isinstance(content, dict) or content.keys() != like.keys():
                raise ValueError(f"{name} has other fields")
            for key, value in like.items():
                _check_like(content[key], value, key)
        case np.ndarray():
            same = isinstance(content, np.ndarray) and content.dtype == like.dtype
            if not same or content.shape != like.shape:
                raise ValueError(f"{name} is no array of {like.dtype} {like.shape}")
        case int():
            if type(content) is not int or not 0 <= content <= _LIMITS.get(name, (1 << 128) - 1):
                raise ValueError(f"{name} is no number in its range")
        case _:
            if type(content) is not type(like):
                raise ValueError(f"{name} is a {type(content).__name__}")
