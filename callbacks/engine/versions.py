"""The versions of the libraries that write a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version


def library_versions() -> dict[str, str]:
    """Return the versions that are stored in each manifest, by the names of the libraries."""
    import keras
    import tensorflow as tf

    return {
        "keepfit": version("keepfit"),
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
    }


def changed_versions(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the libraries of training that differ, in words; another keepfit changes nothing.

    Example:
        >>> changed_versions({"keras": "3.8.0"}, {"keras": "3.9.0"})
        ['keras was 3.8.0 and is 3.9.0']
    """
    return [
        f"{name} was {before[name]} and is {now[name]}"
        for name in ("keras", "tensorflow")
        if name in before and name in now and before[name] != now[name]
    ]
