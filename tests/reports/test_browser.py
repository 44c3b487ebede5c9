"""The page in Chromium: on a screen and a phone, light and dark, by keyboard, and live."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from keepfit.callbacks.storage import open_store
from keepfit.job.reports.data import read_report
from keepfit.job.reports.page import render
from keepfit.job.reports.page.render import page_of
from keepfit.job.reports.page.server import LiveReport
from tests.checkpoint.samples import snapshot, take_over
from tests.journal.factory import killed_and_resumed, write
from tests.reports.samples import sample
from tests.reports.test_render import hostile
from tests.reports.test_server import served
from tests.reports.visit import visiting

pytestmark = pytest.mark.browser

SCREEN = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The address of the sample's page, a file."""
    path = tmp_path_factory.mktemp("page") / "run.html"
    path.write_bytes(page_of(sample()))
    return path.as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", [SCREEN, PHONE], ids=["screen", "phone"])
def test_the_page(browser, address, screen, scheme):
    """It asks for nothing, complains about nothing, fits, and breaks no rule of axe-core."""
    with visiting(browser, address, viewport=screen, color_scheme=scheme) as visit:
        assert visit.evaluate("document.querySelectorAll('.chart canvas').length") == 2
        assert visit.evaluate("document.documentElement.scrollWidth") <= screen["width"]
        dark = visit.evaluate("getComputedStyle(document.body).backgroundColor")
        assert dark == ("rgb(16, 20, 24)" if scheme == "dark" else "rgb(255, 255, 255)")
        assert visit.violations() == []
        assert visit.requests == [address]
        assert visit.complaints == []


def test_axe_finds_what_is_wrong(browser, address):
    """The check of the rules can fail: for faint text, and a control without a name."""
    with visiting(browser, address, viewport=PHONE) as visit:
        visit.evaluate("document.querySelector('.remark').style.color = '#ccc'")
        visit.evaluate("document.querySelector('label select').parentElement.before("
                       "document.querySelector('label select'))")  # fmt: skip
        broken = {line.partition(":")[0] for line in visit.violations()}
        assert {"color-contrast", "select-name"} <= broken


def test_the_keyboard(browser, address):
    """Tab reaches each control, link and wide table; the arrow keys read the curve aloud."""
    with visiting(browser, address, viewport=PHONE) as visit:
        reached: list[str] = []
        while reached.count("metric-name") < 2:  # Tab has come to the first control again
            visit.page.keyboard.press("Tab")
            reached.append(visit.focused())
            assert len(reached) < 50
        reached.pop()
        assert [name for name in reached if name in
                ("metric-name", "metric-log", "metric-chart", "save-chart")] == [
                    "metric-name", "metric-log", "metric-chart", "save-chart"]  # fmt: skip
        assert reached.count("log") == 5
        visit.page.focus("#metric-chart")
        readout = visit.page.locator("#metric-readout")
        visit.page.keyboard.press("ArrowRight")
        assert readout.inner_text().startswith("step 100: loss ")
        visit.page.keyboard.press("End")
        assert readout.inner_text().startswith("step 8,000: loss ")
        assert readout.get_attribute("aria-live") == "polite"
        visit.page.select_option("#metric-name", "accuracy")
        visit.page.focus("#metric-chart")
        visit.page.keyboard.press("Home")
        assert readout.inner_text().startswith("step 100: accuracy ")


def test_hostile_names_do_nothing(browser, tmp_path):
    """They are shown as they are, and no program in them runs."""
    path = tmp_path / "run.html"
    path.write_bytes(page_of(hostile()))
    with visiting(browser, path.as_uri(), viewport=PHONE) as visit:
        assert "onerror" in visit.page.title()
        assert visit.evaluate("document.images.length") == 0
        assert "onerror" in visit.page.locator("#metric-legend").inner_text()
        assert visit.requests == [path.as_uri()]
        assert visit.complaints == []
        assert visit.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_without_javascript(browser, address):
    """Everything but the curves is there, and a line says so."""
    with visiting(browser, address, viewport=SCREEN, java_script_enabled=False) as visit:
        assert visit.page.locator("noscript p").is_visible()
        assert visit.page.locator(".attempts tbody tr").count() == 5
        assert visit.page.locator("#metric").is_hidden()


def test_paper(browser, address):
    """A printer gets dark text on white, and no controls."""
    with visiting(browser, address, viewport=SCREEN, color_scheme="dark") as visit:
        visit.page.emulate_media(media="print")
        assert visit.evaluate("getComputedStyle(document.body).color") == "rgb(26, 30, 35)"
        assert visit.page.locator("#metric-log").is_hidden()
        assert visit.page.locator("#metric-chart canvas").is_visible()


def test_a_live_page(browser, tmp_path, monkeypatch):
    """It follows the store, keeps the focus, and says when nobody answers any more."""
    monkeypatch.setattr(render, "POLL_SECONDS", 0.2)
    monkeypatch.setattr("keepfit.job.reports.page.server.POLL_SECONDS", 0.2)
    store = open_store(f"file://{tmp_path}/runs")
    for _ in range(3):
        taken = take_over(store, run="run")
    taken.commit(snapshot(7))
    first, second, third = killed_and_resumed()
    write(store, first)
    live = LiveReport(lambda: read_report(store, "run"), read_report(store, "run"))
    with ExitStack() as pages:
        with served(live) as server:
            visit = pages.enter_context(visiting(browser, server.address, viewport=SCREEN))
            rows = visit.page.locator(".attempts tbody tr")
            assert rows.count() == 1
            visit.page.focus("[data-section=attempts] .wide")
            write(store, second, third)
            visit.page.locator(".which", has_text="1 to 3").wait_for()
            assert rows.count() == 1  # the keyboard's focus is there, so nothing moves
            visit.page.keyboard.press("Shift+Tab")
            rows.nth(2).wait_for()
            assert "finished" in rows.first.inner_text()
            assert visit.violations() == []
            assert visit.complaints == []
            assert {*visit.requests} == {server.address, f"{server.address}data.json"}
        visit.page.locator("#live.broken").wait_for()
        assert "does not answer" in visit.page.locator("#live").inner_text()
        assert rows.count() == 3
