"""Rows of long tables: each day, one half of them belongs to the quick tests, the other to soak."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest


def marks_of(number: int) -> list[pytest.MarkDecorator]:
    """Return the marks of a row by its number: the next day, the other half is marked."""
    return [] if (number + datetime.now(UTC).toordinal()) % 2 else [pytest.mark.soak]


def rotating(rows: Iterable[Any]) -> list[Any]:
    """Return the rows as parameters, of which half are marked today."""
    return [pytest.param(row, marks=marks_of(number)) for number, row in enumerate(rows)]
