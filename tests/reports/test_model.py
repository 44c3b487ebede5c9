"""The contents of the page: what it says of a run, and what it leaves out."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from keepfit.callbacks.journal.document import Machine
from keepfit.callbacks.journal.terms import Reason
from keepfit.job.reports.page.curves import thin
from keepfit.job.reports.page.links import job_link, log_link
from keepfit.job.reports.page.model import Budget, page_model
from keepfit.job.reports.page.timeline import BINS
from tests.reports.samples import MACHINE, attempt, report, sample


def model(found=None, budget=None):
    """Return the contents of the page of a report; of the sample without one."""
    return page_model(found or sample(), budget or Budget())


def test_the_key_figures():
    """Goodput, attempts and steps lost are those of the journals."""
    figures = {figure.label: figure for figure in model().figures}
    assert figures["Attempts"].value == "5"
    assert figures["Attempts"].detail == "2 killed, 1 preempted"
    assert (
        figures["Steps lost"].value == "≥ 320"
    )  # of killed attempts, those until the newest save are known
    assert figures["Cost"].value.startswith("$")


def test_the_parts_add_up():
    """The percentages that are shown are 100 in all, to the tenth."""
    assert sum(round(part.percent * 10) for part in model().parts) == 1000


def test_what_is_not_known_is_named():
    """No price and no journal: the page shows no numbers in their place."""
    figures = {figure.label: figure.value for figure in model(report(())).figures}
    assert figures["Goodput"] == figures["Steps lost"] == figures["Cost"] == "unknown"
    page = model(report((attempt(1, started=0, first=0, last=500, machine=Machine()),)))
    assert page.cost is None
    assert page.attempts[0].cost == page.attempts[0].machine == ""
    assert page.attempts[0].log is page.attempts[0].job is None


def test_the_timeline_has_each_start_end_and_notice():
    """A mark for each of them, in the order of time."""
    (line,) = model().lines
    kinds = [mark.kind for mark in line.marks if mark.kind != "cut"]
    assert kinds == ["start", "killed", "start", "notice", "preempted", "start", "failed",
                     "start", "killed", "start", "finished"]  # fmt: skip
    assert [mark.percent for mark in line.marks] == sorted(mark.percent for mark in line.marks)
    assert line.marks[-1].percent == 100


def test_the_timeline_shows_the_parts_in_proportion():
    """Each part has its share of the line, within two bins for each of its pieces."""
    found = report((attempt(1, started=0, first=0, last=400, reason=Reason.FINISHED),))
    (line,) = model(found).lines
    assert line.segments[0].part == "startup"
    pieces = {"startup": 1, "validation": 4, "productive": 5}
    for part, count in pieces.items():
        width = sum(segment.width for segment in line.segments if segment.part == part)
        share = getattr(found.goodput.parts, part) / found.goodput.parts.total
        assert width == pytest.approx(share * BINS, abs=2 * count), part


def test_the_timeline_covers_the_whole_time():
    """Segments follow each other without a gap, and lost training is among them."""
    (line,) = model().lines
    assert line.segments[0].start == 0
    for one, following in pairwise(line.segments):
        assert one.start + one.width == following.start
    assert line.segments[-1].start + line.segments[-1].width == BINS
    parts = {segment.part for segment in line.segments}
    assert {"productive", "validation", "retrained", "unknown", "waiting"} <= parts


def test_a_place_on_the_timeline_has_the_part_that_took_the_most_of_it():
    """A validation of 3 s after each 25 s of training disappears in bins of 9 s."""
    found = report((attempt(1, started=0, first=0, last=20_000, reason=Reason.FINISHED),))
    (line,) = model(found).lines
    assert [segment.part for segment in line.segments] == ["startup", "productive"]


def test_a_long_gap_is_drawn_shorter_and_says_so():
    """Three weeks without a machine leave room for the attempts."""
    gap = 21 * 86400
    found = report((
        attempt(1, started=0, first=0, last=1000),
        attempt(2, started=gap, first=1000, last=2000, reason=Reason.FINISHED),
    ))  # fmt: skip
    (line,) = model(found).lines
    (cut,) = [mark for mark in line.marks if mark.kind == "cut"]
    assert cut.text == "21 d between the attempts, drawn shorter"
    waiting = sum(one.width for one in line.segments if one.part == "waiting")
    assert waiting < BINS * 0.12


def test_many_attempts_take_several_lines():
    """Each attempt is in the numbers of a line."""
    found = report(tuple(
        attempt(n, started=n * 100, first=n * 200, last=n * 200 + 200) for n in range(1, 21)
    ))  # fmt: skip
    lines = model(found).lines
    assert len(lines) == 3
    assert lines[0].attempts.startswith("1 to ")
    assert lines[-1].attempts.endswith(" to 20")


@pytest.mark.parametrize("year", [1, 9999])
def test_a_forged_time_ends_no_page(year):
    """A journal may have any date and any duration that its schema allows."""
    one = attempt(1, started=0, first=0, last=500)
    forged = one.model_copy(update={"process_started": datetime(year, 12, 31, 23, 59, tzinfo=UTC)})
    page = model(report((forged, attempt(2, started=600, first=500, last=900))))
    assert len(page.attempts) == 2


def test_curves_of_lost_epochs_are_apart():
    """The main curve has each step once; the lost ones begin where they part from it."""
    (loss, *_) = model().charts["metrics"]
    assert loss["names"] == ("loss", "val_loss")
    assert loss["x"] == sorted(set(loss["x"])) == list(range(100, 8001, 100))
    lost = [run["x"] for run in loss["lost"]]
    assert lost == [[1500, 1600, 1700], [3200, 3300, 3400], [3500, 3600]]
    assert all(len(run["y"]) == 2 for run in loss["lost"])
    assert model().remarks["metrics"] == (
        "5 epochs were lost and trained again; their curves are dashed.",
    )


def test_borders_and_lost_steps():
    """Where attempts began, and which steps were done again."""
    charts = model().charts
    assert charts["borders"] == [(1500, 2), (3250, 3), (3500, 4), (5250, 5)]
    assert charts["bands"] == [(3250, 3460), (3500, 3610)]


def test_values_that_cannot_be_drawn_are_counted():
    """NaN leaves a gap, and the page says how many."""
    one = attempt(1, started=0, first=0, last=500)
    first, second, *others = one.epochs
    broken = first.model_copy(update={"metrics": {"loss": math.nan}})
    worse = second.model_copy(update={"metrics": {"loss": math.inf}})
    page = model(report((one.model_copy(update={"epochs": (broken, worse, *others)}),)))
    assert page.charts["metrics"][0]["y"][0][:2] == [None, None]
    assert "2 values are NaN or infinite, and leave gaps." in page.remarks["metrics"]
    assert not any("nan" in row.last + row.lowest + row.highest for row in page.summary)


def test_thinned_curves_keep_their_extremes():
    """A spike of one epoch in 10,000 is drawn."""
    values: list[float | None] = [1.0] * 10_000
    values[4321], values[8765] = 99.0, -99.0
    chosen = thin([values], 200)
    assert {0, 4321, 8765, 9999} <= set(chosen)
    assert len(chosen) <= 200
    assert chosen == sorted(set(chosen))


def test_what_is_left_out_is_said():
    """Tables are cut and curves thinned to the budget, with a remark each."""
    page = model(budget=Budget(values=60, rows=2, metrics=1))
    assert [row.number for row in page.attempts] == [5, 4]
    assert page.remarks["attempts"][0].startswith("The newest 2 of 5 attempts")
    assert len(page.metrics) == 1
    assert any("Curves are thinned" in remark for remark in page.remarks["metrics"])
    assert any(remark == "2 more metrics are not shown." for remark in page.remarks["metrics"])


def test_the_ends_of_attempts():
    """A killed attempt, an error with its cause, and the newest one without an end."""
    rows = {row.number: row for row in model().attempts}
    assert rows[1].reason == "killed, no record"
    assert (rows[3].state, rows[3].reason) == ("failed", "failed (exit 1)")
    assert rows[3].detail == "ValueError: labels out of range"
    assert rows[2].notices == "spot"
    assert (rows[1].lost, rows[2].lost) == ("≥ 0", "210")
    running = model(report((attempt(1, started=0, first=0, last=500, reason=None),)))
    assert running.attempts[0].reason == "running, or killed"


def test_links_lead_to_the_console():
    """As CloudWatch encodes the names of groups and streams."""
    start = "https://eu-central-1.console.aws.amazon.com/"
    assert log_link(MACHINE) == (
        f"{start}cloudwatch/home?region=eu-central-1#logsV2:log-groups/log-group/"
        "$252Faws$252Fbatch$252Fjob/log-events/keepfit$252Fdefault$252F0b6e3f1c7d0b4f5e"
    )
    assert job_link(MACHINE) == (f"{start}batch/home?region=eu-central-1#jobs/detail/{MACHINE.job}")
    china = MACHINE.model_copy(update={"region": "cn-north-1"})
    assert "//cn-north-1.console.amazonaws.cn/" in str(job_link(china))


@pytest.mark.parametrize("region", [
    None, "", "evil.example/", "eu-central-1.evil.example", "javascript:alert(1)", "eu-central-1\n",
    "EU-CENTRAL-1", "@evil",
])  # fmt: skip
def test_what_is_no_region_makes_no_link(region):
    """A journal comes from a store, so it can't choose where a link leads."""
    machine = MACHINE.model_copy(update={"region": region})
    assert log_link(machine) is job_link(machine) is None


def test_notes_are_cut():
    """The number of those that are left out is said."""
    unreadable = dict.fromkeys(range(1, 41), "no JSON")
    notes = model(replace(sample(), unreadable=unreadable)).notes
    assert len(notes) == 21
    assert notes[-1].endswith("more notes are not shown")
