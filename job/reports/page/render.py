"""Render the page of a report: one file of HTML that needs no network."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from keepfit.job.reports.data import Report
from keepfit.job.reports.page.contents import Page
from keepfit.job.reports.page.model import Budget, page_model

if TYPE_CHECKING:
    from jinja2 import Environment

MAX_BYTES: Final = 1_500_000
"""Largest page. More of what it shows is left out until it fits."""

SECTIONS: Final = (
    "overview",
    "timeline",
    "goodput",
    "metrics",
    "saves",
    "attempts",
    "about",
)
"""The sections of the page: each has a template, and an element whose id is its name."""

POLL_SECONDS: Final = 3
"""Seconds between two requests of a page that is served live."""

_FOLDER: Final = Path(__file__).parent


def page_of(report: Report) -> bytes:
    """Return the page of a report.

    Raises:
        ValueError: it is too large, whatever is left out.
    """
    return _fitting(report, live=False)


def live_page_of(report: Report) -> bytes:
    """Return the page that renews itself from `data.json` of the server that it came from."""
    return _fitting(report, live=True)


def live_data_of(report: Report) -> bytes:
    """Return `data.json`: the contents of the sections, and the columns of the charts."""
    model = page_model(report, Budget())
    data = {"sections": _sections(model), "charts": model.charts, "title": model.run}
    return json.dumps(data, separators=(",", ":")).encode()


def _fitting(report: Report, *, live: bool) -> bytes:
    """Return the page with the largest budget with which it is small enough."""
    budget = Budget()
    while True:
        page = _render(page_model(report, budget), live=live)
        if len(page) <= MAX_BYTES:
            return page
        if budget.values < 1:
            raise ValueError(f"the page of run {report.run.run!r} has {len(page) >> 20} MiB")
        budget = budget.half()


def _render(page: Page, *, live: bool) -> bytes:
    styles = [_asset("uPlot.min.css"), _asset("page.css")]
    scripts = [_asset("uPlot.iife.min.js"), _asset("page.js")]
    template = _environment().get_template("page.html")
    return template.render(
        page=page,
        sections=_sections(page),
        styles=styles,
        scripts=scripts,
        licence=_asset("uPlot.LICENSE.txt"),
        policy=content_policy(styles, scripts, live=live),
        charts=embedded_json(page.charts),
        poll=POLL_SECONDS if live else None,
    ).encode()


def _sections(page: Page) -> dict[str, str]:
    """Return the contents of each section as HTML."""
    templates = _environment()
    return {name: templates.get_template(f"{name}.html").render(page=page) for name in SECTIONS}


def content_policy(styles: list[str], scripts: list[str], *, live: bool) -> str:
    """Return the Content-Security-Policy: these styles and scripts, and no network.

    A live page may ask the server that it came from.
    """
    policy = {
        "default-src": ["'none'"],
        "style-src": [_digest(style) for style in styles],
        "script-src": [_digest(script) for script in scripts],
        "img-src": ["data:"],  # the empty icon, without which a browser asks for /favicon.ico
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }
    if live:
        policy["connect-src"] = ["'self'"]
    return "; ".join(f"{name} {' '.join(values)}" for name, values in policy.items())


def embedded_json(value: Any) -> str:
    """Return JSON that can't end the element of the page in which it stands."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _asset(name: str) -> str:
    return (_FOLDER / "assets" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    """Return the templates, which escape all that they show."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
