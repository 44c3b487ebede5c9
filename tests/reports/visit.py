"""A page of a report in a browser, and all that it asks for and complains about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
"""The rules of axe-core that the page keeps."""


@dataclass
class Visit:
    """A page that is open.

    Attributes:
        requests: the addresses that it has asked for.
        complaints: lines of its console, and its errors.
    """

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def violations(self) -> list[str]:
        """Return the rules of axe-core that are violated, with the elements."""
        found = Axe().run(self.page, options={**RULES, "resultTypes": ["violations"]})
        return [
            f"{rule['id']}: {node['html'][:200]}"
            for rule in found.response["violations"]
            for node in rule["nodes"]
        ]

    def evaluate(self, code: str) -> Any:
        """Return the value of JavaScript in the page."""
        return self.page.evaluate(code)

    def focused(self) -> str:
        """Return the id, or the text, of the element that has the keyboard's focus."""
        return str(self.evaluate("document.activeElement.id || document.activeElement.textContent"))


@contextmanager
def visiting(browser: Browser, address: str, **options: Any) -> Iterator[Visit]:
    """Open an address in a browser without any memory, until the block ends."""
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(20_000)
    visit = Visit(page)
    page.on("request", lambda request: visit.requests.append(request.url))
    page.on("console", lambda line: visit.complaints.append(f"{line.type}: {line.text}"))
    page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    try:
        page.goto(address)
        yield visit
    finally:
        context.close()
