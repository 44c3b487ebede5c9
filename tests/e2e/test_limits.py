"""`--max-hours` and `--max-cost` in real processes."""

from __future__ import annotations

from keepfit.callbacks.journal.read import read_journals
from keepfit.callbacks.journal.terms import Reason
from keepfit.callbacks.storage import open_store
from tests.e2e.process import result, small

HOURS = {"KEEPFIT_MAX_HOURS": str(10 / 3600)}
"""Enough to start, and not enough for a hundred slow batches."""

SLOW = ("tfdata", "--batch-seconds", "0.5")


def test_a_run_ends_at_its_limit_and_continues_with_a_larger_one(tmp_path, uninterrupted):
    """Exit code 79 with everything saved; the same limit again trains nothing; a larger one does.

    The result is that of an uninterrupted run.
    """
    ended = small(tmp_path, *SLOW, save_every="1h", **HOURS)
    assert ended.code == 79, ended.err
    assert ended.one("notice")["source"].startswith("--max-hours 0.00")
    reached = ended.one("limit_reached")
    assert (reached["saved"], reached["lost"]) == (True, 0)
    assert 0 < reached["step"] < 100
    assert "of 0.00277778 h, in 1 attempt" in reached["used"]
    assert "keepfit submit --resume --max-hours N" in reached["fix"]
    assert not ended.named("preempted")

    again = small(tmp_path, *SLOW, **HOURS)
    assert again.code == 79, again.err
    assert "nothing is trained" in again.one("limit_reached")["reason"]
    assert "in 2 attempts" in again.one("limit_reached")["used"]
    assert not again.named("attempt_started"), "it has taken the run over"

    finished = small(tmp_path, "tfdata", KEEPFIT_MAX_HOURS="1")
    assert finished.code == 0, finished.err
    assert finished.one("resumed")["step"] == reached["step"]
    assert result(tmp_path) == uninterrupted("tfdata")
    first, last = read_journals(open_store(f"file://{tmp_path}/runs"), "small").journals
    assert (first.end.reason, first.end.exit_code) == (Reason.LIMIT, 79)
    assert last.end.reason is Reason.FINISHED
    assert first.fits[0].epochs == 5


def test_a_cost_that_cant_be_counted_is_refused(tmp_path):
    """Without a price, nothing is trained; with one, the limit counts."""
    refused = small(tmp_path, "tfdata", KEEPFIT_MAX_COST="0.001")
    assert refused.code == 78, refused.err
    line = refused.one("refused")
    assert "--max-cost: the price of this machine is not known" in line["reason"]
    assert "--hourly-price" in line["fix"]
    assert not refused.named("attempt_started")
    prices = {"KEEPFIT_MAX_COST": "0.001", "KEEPFIT_HOURLY_PRICE": "10000"}
    ended = small(tmp_path, "tfdata", **prices)
    assert ended.code == 79, ended.err
    assert ended.one("limit_reached")["used"].startswith("$")
