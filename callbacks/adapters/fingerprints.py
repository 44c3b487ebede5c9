"""Fingerprints of nests of values: equal ones mean that training has changed nothing."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from keepfit.callbacks.adapters.frozen import is_constant
from keepfit.callbacks.checkpoint.format.codec import Array, Encoded
from keepfit.callbacks.checkpoint.snapshot import array_bytes
from keepfit.callbacks.daemon_executor import DaemonExecutor

MAX_READ_SIZE = 1 << 30
"""Bytes of one value's arrays above which the arrays are compared by identity, not by content."""

_BLOCK = 8 << 20
"""Bytes that one thread digests at once."""

_THREADS = os.cpu_count() or 1


@dataclass(frozen=True)
class Fingerprint:
    """What distinguishes a value from others, with regard to types and to each bit.

    Attributes:
        text: the value's JSON, and of each array the type, shape and digest, or the identity.
        identified: the arrays that were compared by identity; no other array can have theirs
            while they are kept here.
        unread: some of these can be changed in place, which the fingerprint does not show.
    """

    text: str
    identified: tuple[Array, ...] = field(default=(), compare=False, repr=False)
    unread: bool = field(default=False, compare=False)


def fingerprint(value: Encoded, *, read_all: bool = False) -> Fingerprint:
    """Return the fingerprint of a value.

    Args:
        read_all: read all arrays, however large: they have been captured, and nothing waits.
    """
    arrays = value.arrays.values()
    constant = [array for array in arrays if is_constant(array)]
    changing = [array for array in arrays if not is_constant(array)]
    unread = sum(array.nbytes for array in changing) > MAX_READ_SIZE and not read_all
    identified = (*constant, *changing) if unread else tuple(constant)
    kinds = [(array.dtype.str, array.shape) for array in arrays]
    digest = "" if unread else digest_of(changing)
    identities = [*map(id, identified)]
    text = f"{json.dumps(value.tree)}{kinds}{identities}{digest}"
    return Fingerprint(text, identified, unread)


def digest_of(arrays: Iterable[Array]) -> str:
    """Return the SHA-256 of the digests of all blocks of the arrays, on all cores if they are many.

    The digest does not depend on the number of cores.
    """
    contents = map(array_bytes, arrays)
    blocks = [data[i : i + _BLOCK] for data in contents for i in range(0, data.nbytes, _BLOCK)]
    if len(blocks) > 2 * _THREADS:
        with DaemonExecutor(_THREADS, "keepfit-digest") as pool:
            digests = list(pool.map(_sha256, blocks))
    else:
        digests = [_sha256(block) for block in blocks]
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _sha256(block: memoryview) -> bytes:
    return hashlib.sha256(block).digest()
