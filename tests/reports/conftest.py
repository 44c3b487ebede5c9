"""One Chromium for the tests of a file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

OPTIONS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",  # else it asks its maker's servers, which no test may
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The Chromium that is installed."""
    program = shutil.which("chromium")
    assert program, "tests marked `browser` need Debian's package chromium"
    unconfined = ["--no-sandbox"] if os.geteuid() == 0 else []  # root can't have the sandbox
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=program, args=[*OPTIONS, *unconfined])
        yield opened
        opened.close()
