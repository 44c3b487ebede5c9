"""The page of a run with 500 attempts and 100,000 epochs."""

from __future__ import annotations

import re
import time

import pytest

from keepfit.job.reports.page.render import page_of
from tests.reports.samples import large
from tests.reports.visit import visiting


@pytest.fixture(scope="module")
def page():
    """The page, made once."""
    return page_of(large())


def test_it_is_small(page):
    """It has less than 1.5 MB, and says what it leaves out."""
    print(f"{len(page):,} bytes")
    assert len(page) <= 1_500_000
    text = page.decode()
    assert re.search(r"Curves are thinned: [\d,]+ of 9\d,\d{3} points are drawn", text)
    assert "epochs were lost and trained again" in text
    assert text.count('<th scope="row"><span class="only-cards">attempt ') == 500


@pytest.mark.browser
def test_it_opens_quickly(page, browser, tmp_path, capsys):
    """In less than 3 s until both charts are drawn, on a machine that does other things."""
    path = tmp_path / "run.html"
    path.write_bytes(page)
    started = time.monotonic()
    with visiting(browser, path.as_uri(), viewport={"width": 1280, "height": 900}) as visit:
        visit.page.wait_for_function("document.querySelectorAll('.chart canvas').length == 2")
        visit.evaluate("new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)))")
        seconds = time.monotonic() - started
        with capsys.disabled():
            print(f"\nopened in {seconds:.2f} s")
        assert seconds < 3
        assert visit.requests == [path.as_uri()]
        assert visit.complaints == []
