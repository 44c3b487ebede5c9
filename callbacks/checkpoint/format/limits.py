"""Bounds of everything that is read from a store; docs/format.md lists them.

Whoever can write to a store can put any object there, with right digests. A document beyond these
bounds is damaged, so neither a number nor an allocation depends on that object alone.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from keepfit.callbacks.storage.base import MAX_LOAD

MAX_DOCUMENT_BYTES = MAX_LOAD
"""Largest HEAD or manifest, in bytes of JSON. A manifest has about 150 bytes a variable, and HEAD
about 400 bytes a fit."""

MAX_COUNT = 10**15
"""Largest number of steps, batches or bytes. Sums and products of a few of them fit 64 bits of a
float or an int without loss, or are computed by Python, which has no limit."""

MAX_NUMBER = 10**9
"""Largest number of an attempt, a checkpoint of an attempt, an epoch or a fit."""

MAX_OBJECT_BYTES = 1 << 44
"""Largest shard: 16 TiB. No memory is touched before the store confirms the size."""

MAX_PART_BYTES = 1 << 30
"""Largest part of a callback's file. keepfit 0.1 has written all that was appended as one."""

MAX_ITEMS = 1 << 20
"""Largest number of shards, tensors or files that a manifest names."""

MAX_MANIFESTS = 100_000
"""Largest number of checkpoints, and of fits, that HEAD names: each may have to be looked for."""

MAX_RANK = 64
"""Largest number of dimensions of a tensor; NumPy's own limit."""

MAX_DEPTH = 100
"""Deepest nest of lists and objects in a state."""

MAX_NAME = 1024
"""Longest name in characters: of a run, a tensor, a class or a layer."""

MAX_PATH = 4096
"""Longest path of a file in characters, as in Linux (PATH_MAX)."""

Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Number = Annotated[int, Field(ge=0, le=MAX_NUMBER)]
AttemptNumber = Annotated[int, Field(ge=1, le=MAX_NUMBER)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
PathText = Annotated[str, Field(min_length=1, max_length=MAX_PATH, pattern=r"^[^\x00]+$")]


def is_deeper_than(value: Any, depth: int) -> bool:
    """Return whether lists and dicts are nested more than `depth` deep; visits each item once."""
    level = [value]
    for _ in range(depth):
        level = [
            item
            for nest in level
            if isinstance(nest, dict | list)
            for item in (nest.values() if isinstance(nest, dict) else nest)
            if isinstance(item, dict | list)
        ]
        if not level:
            return False
    return True


Json = Any
"""A JSON value: None, bool, int, float, str, lists and string-keyed dicts of these."""
