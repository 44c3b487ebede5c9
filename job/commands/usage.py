"""The limits of a run, and the prices with which they are counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from keepfit.callbacks.runner_settings import LimitSettings, PriceSettings
from keepfit.callbacks.settings import Settings
from keepfit.job.runner import UsageRules

if TYPE_CHECKING:
    from keepfit.callbacks.engine.session import Session
    from keepfit.callbacks.journal.document import Machine
    from keepfit.callbacks.journal.read import RunJournals
    from keepfit.job.machine.facts import PriceFinder
    from keepfit.job.notices.limit import LimitWatcher


def usage_rules(settings: Settings) -> UsageRules:
    """Return the limits of the run that `settings` name, with prices that AWS is asked for.

    What counts them is imported for a run with limits only: the library of journals is large.
    """
    limits = LimitSettings.resolve()
    if limits == LimitSettings(max_hours=None, max_cost=None):
        return UsageRules(price_of_machine)

    def watch(session: Session, price: PriceFinder) -> AbstractContextManager[LimitWatcher | None]:
        from keepfit.callbacks.journal.usage import Limits
        from keepfit.job.notices.limit import LimitRequest, watch_limits

        request = LimitRequest(
            Limits(limits.max_hours, limits.max_cost),
            PriceSettings.resolve().hourly_price,
            settings.store,
            settings.run,
        )
        return watch_limits(request, session, price, _with_prices)

    return UsageRules(price_of_machine, limits.max_cost is not None, watch)


def price_of_machine(machine: Machine) -> Iterator[tuple[PriceSettings, str]]:
    """Ask AWS for the prices of this machine. boto3 is imported only here, where it is needed."""
    from keepfit.infra import aws
    from keepfit.infra.jobs.past_prices import PastMachine, present_prices

    here = PastMachine.of(
        machine.instance_type, machine.zone, machine.region, machine.price_class, datetime.now(UTC)
    )
    if here is None:
        return
    for found in present_prices(here, aws.client):
        prices = PriceSettings(hourly_price=found.hourly, on_demand_price=found.on_demand)
        yield prices, "; ".join(found.gaps)


def _with_prices(found: RunJournals) -> RunJournals:
    """Return the journals with the prices that AWS knows of their machines."""
    from keepfit.job.reports.prices import fill_prices

    return replace(found, journals=fill_prices(found.journals, datetime.now(UTC)).journals)
