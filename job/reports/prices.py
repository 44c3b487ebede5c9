"""Prices of attempts whose journals name a machine without its price: AWS is asked for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any

from keepfit.callbacks.journal.document import Journal, Machine
from keepfit.callbacks.journal.goodput import measure
from keepfit.callbacks.journal.spans import span_of
from keepfit.callbacks.journal.terms import MAX_PRICE
from keepfit.infra import aws
from keepfit.infra.jobs.costs import Recorded, RecordedMachine
from keepfit.infra.jobs.machines import Instance
from keepfit.infra.jobs.past_prices import PastMachine, past_prices
from keepfit.infra.jobs.prices import Prices
from keepfit.job.reports.data import Report

PricedRuns = Callable[
    [Sequence[Sequence[Journal]], datetime],
    tuple[tuple[tuple[Journal, ...], ...], tuple[str, ...]],
]
"""Returns the journals of several runs with their prices, and why some are not known."""


@dataclass(frozen=True)
class PricedJournals:
    """The journals, with the prices that were found; `gaps` says why others were not."""

    journals: tuple[Journal, ...]
    gaps: tuple[str, ...] = ()


def fill_prices(
    journals: Sequence[Journal],
    now: datetime,
    client: Callable[[str, str | None], Any] = aws.client,
) -> PricedJournals:
    """Return the journals with the prices of the machines that they name, where one is missing.

    A price that a journal has stays. Nothing is asked if all have theirs, or none names a machine.
    """
    (filled,), gaps = fill_all([journals], now, client)
    return PricedJournals(filled, gaps)


def fill_all(
    runs: Sequence[Sequence[Journal]],
    now: datetime,
    client: Callable[[str, str | None], Any] = aws.client,
) -> tuple[tuple[tuple[Journal, ...], ...], tuple[str, ...]]:
    """Return the journals of several runs with prices, and why others are not known.

    Machines of one type in one zone are asked for once, whichever run has used them.
    """
    asked: dict[tuple[int, int], PastMachine] = {}
    for run, journals in enumerate(runs):
        for index, (journal, following) in enumerate(zip_longest(journals, journals[1:])):
            machine = journal.machine
            if machine.hourly_price is None or machine.on_demand_price is None:
                past = _past_machine(journal, following)
                asked |= {(run, index): past} if past else {}
    if not asked:
        return tuple(map(tuple, runs)), ()
    found, gaps = past_prices(list(asked.values()), client, now)
    prices = dict(zip(asked, found, strict=True))
    filled = tuple(
        tuple(
            journal.model_copy(update={"machine": _priced(journal.machine, prices[run, index])})
            if (run, index) in prices
            else journal
            for index, journal in enumerate(journals)
        )
        for run, journals in enumerate(runs)
    )
    return filled, gaps


def with_prices(report: Report, now: datetime) -> tuple[Report, tuple[str, ...]]:
    """Return the report with the prices that AWS knows, and why others are not known."""
    priced = fill_prices(report.journals, now)
    journals = priced.journals
    return replace(report, journals=journals, goodput=measure(journals)), priced.gaps


def recorded_machines(journals: Sequence[Journal]) -> Recorded:
    """Return the machines that the journals name, by job and number of the attempt in it."""
    found = {}
    for journal in journals:
        machine = journal.machine
        if machine.job and machine.job_attempt and machine.instance_type:
            found[machine.job, machine.job_attempt] = RecordedMachine(
                Instance(machine.instance_type, machine.zone or ""),
                machine.hourly_price,
                machine.on_demand_price,
            )
    return found


def _past_machine(journal: Journal, following: Journal | None) -> PastMachine | None:
    machine, began = journal.machine, journal.process_started
    try:
        ended = began + timedelta(seconds=span_of(journal, following, None).seconds)
    except OverflowError:  # a forged journal: the year 9999
        return None
    return PastMachine.of(
        machine.instance_type, machine.zone, machine.region, machine.price_class, began, ended
    )


def _priced(machine: Machine, found: Prices) -> Machine:
    """Return a machine with the prices that it lacks, where they were found."""
    given = {"hourly_price": found.hourly, "on_demand_price": found.on_demand}
    return machine.model_copy(
        update={
            name: price
            for name, price in given.items()
            if getattr(machine, name) is None and price is not None and price <= MAX_PRICE
        }
    )
