"""Run names that follow from the names of scripts, modules and notebooks."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

MAX_LENGTH = 128
_VALID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+-]{0,127}")
_DIGITS = 8


def is_valid(name: str) -> bool:
    """Return whether a run may have this name."""
    return _VALID.fullmatch(name) is not None


def valid_name(stem: str) -> str:
    """Return the stem, or a valid name made of it that no other stem gives.

    Characters that names can't have are replaced. A digest of the stem then tells `größe` from
    `grüße`.
    """
    if is_valid(stem):
        return stem
    digest = hashlib.sha256(stem.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    replaced = re.sub(r"[^A-Za-z0-9._=+-]", "-", stem).lstrip("._=+-") or "run"
    return f"{replaced[: MAX_LENGTH - _DIGITS - 1]}-{digest}"


def run_name_of(script: str) -> str:
    """Return the run name for a script: its name without folder and suffix, if that is valid."""
    return valid_name(Path(script).stem)
