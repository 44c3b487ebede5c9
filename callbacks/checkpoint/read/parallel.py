"""Reads on several threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from keepfit.callbacks.daemon_executor import DaemonExecutor

T = TypeVar("T")
R = TypeVar("R")


def parallel_map(function: Callable[[T], R], items: Sequence[T], threads: int) -> list[R]:
    """Return the results for all items, in order; on threads if that is worth their start."""
    if threads < 2 or len(items) < 2:
        return [function(item) for item in items]
    with DaemonExecutor(threads, "keepfit-reader") as pool:
        return list(pool.map(function, items))
