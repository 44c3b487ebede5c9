"""Recorded lifetimes of machines, from a CSV file."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from keepfit.callbacks.errors import ConfigurationError

RECORDED = Path(__file__).with_name("spot-lives.csv")
COLUMN = "life_seconds"
CENTURY = 100 * 365.25 * 86400


def read_lifetimes(path: Path) -> tuple[float, ...]:
    """Return the lifetimes in seconds, in the file's order.

    Raises:
        ConfigurationError: the file can't be read, or contains something else; the message is one
            line.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if COLUMN not in (rows.fieldnames or ()):
                raise ConfigurationError(f"{path} has no column {COLUMN!r} in its first line")
            lives = tuple(_life(path, rows.line_num, row[COLUMN]) for row in rows)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"lifetimes can't be read from {path}: {error}") from error
    if not lives:
        raise ConfigurationError(f"{path} contains no lifetimes")
    return lives


def _life(path: Path, line: int, text: str | None) -> float:
    try:
        life = float(text or "")
    except ValueError:
        life = math.nan
    if not 0 < life <= CENTURY:
        raise ConfigurationError(
            f"{path}, line {line}: {COLUMN} must be a number of seconds, above 0 and under a "
            f"century. Received: {text!r}"
        )
    return life
