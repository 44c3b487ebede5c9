"""The contents of the page, as its templates show them: texts, rows and columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keepfit.job.reports.page.curves import Metric
from keepfit.job.reports.page.timeline import Line


@dataclass(frozen=True)
class Figure:
    """A key figure: a label, a value, and a line below it."""

    label: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class PartRow:
    """A part of the time; `percent` is rounded so that all add up to 100."""

    name: str
    label: str
    percent: float
    duration: str
    meaning: str


@dataclass(frozen=True)
class Cost:
    """The cost against that on demand; the widths are in percent of the larger one."""

    paid: str
    on_demand: str | None
    saved: str | None
    paid_width: float
    on_demand_width: float


@dataclass(frozen=True)
class MetricRow:
    """A row of the summary of metrics: the last, the lowest and the highest value."""

    name: str
    last: str
    lowest: str
    highest: str


@dataclass(frozen=True)
class SaveRow:
    """A row of the statistics of the saves."""

    label: str
    median: str
    highest: str
    total: str


@dataclass(frozen=True)
class CheckpointRow:
    """A stored checkpoint."""

    step: str
    position: str
    created: str
    size: str
    attempt: int
    final: bool


@dataclass(frozen=True)
class AttemptRow:
    """An attempt; `state` selects the colour of its end."""

    number: int
    started: str
    duration: str
    machine: str
    kept: str
    lost: str
    saves: str
    notices: str
    cost: str
    state: str
    reason: str
    detail: str
    log: str | None
    job: str | None


@dataclass(frozen=True)
class Page:
    """All that the templates need.

    Attributes:
        as_of: the time of the last record; None if there is no journal.
        goodput: the line that the attempt's end logs also.
        figures: the key figures at the top.
        charts: the columns of the charts, for page.js.
        remarks: sentences about what was left out, by the section that they belong to.
    """

    run: str
    state: str
    reason: str | None
    store: str
    as_of: str | None
    versions: str
    goodput: str
    figures: tuple[Figure, ...]
    lines: tuple[Line, ...]
    bins: int
    parts: tuple[PartRow, ...]
    total: str
    cost: Cost | None
    metrics: tuple[Metric, ...]
    summary: tuple[MetricRow, ...]
    save_rows: tuple[SaveRow, ...]
    checkpoints: tuple[CheckpointRow, ...]
    attempts: tuple[AttemptRow, ...]
    notes: tuple[str, ...]
    remarks: Mapping[str, tuple[str, ...]]
    charts: Mapping[str, Any]
