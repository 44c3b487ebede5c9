"""Rows of long tables: each day, a share of them belongs to the quick tests, the rest to soak."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest


def marks_of(number: int, days: int = 4) -> list[pytest.MarkDecorator]:
    """Return the marks of a row by its number: in `days` days, each row is not marked once."""
    return [pytest.mark.soak] if (number + datetime.now(UTC).toordinal()) % days else []


def rotating(rows: Iterable[Any], days: int = 4) -> list[Any]:
    """Return the rows as parameters, of which one in `days` is not marked today."""
    return [pytest.param(row, marks=marks_of(number, days)) for number, row in enumerate(rows)]
