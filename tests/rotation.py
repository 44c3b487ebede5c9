"""Rows of long tables: each day, one third of them belongs to the quick tests, the rest to soak."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest


def marks_of(number: int) -> list[pytest.MarkDecorator]:
    """Return the marks of a row by its number: each day, another third is not marked."""
    return [pytest.mark.soak] if (number + datetime.now(UTC).toordinal()) % 3 else []


def rotating(rows: Iterable[Any]) -> list[Any]:
    """Return the rows as parameters, of which two thirds are marked today."""
    return [pytest.param(row, marks=marks_of(number)) for number, row in enumerate(rows)]
