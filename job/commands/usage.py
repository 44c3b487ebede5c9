"""The limits of a run, and the prices with which they are counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from keepfit.callbacks.journal.document import Machine
from keepfit.callbacks.journal.read import RunJournals
from keepfit.callbacks.journal.usage import Limits
from keepfit.callbacks.runner_settings import LimitSettings, PriceSettings
from keepfit.callbacks.settings import Settings
from keepfit.job.notices.limit import LimitRequest
from keepfit.job.runner import UsageRules


def usage_rules(settings: Settings) -> UsageRules:
    """Return the limits of the run that `settings` name, with prices that AWS is asked for."""
    limits = LimitSettings.resolve()
    request = LimitRequest(
        Limits(limits.max_hours, limits.max_cost),
        PriceSettings.resolve().hourly_price,
        settings.store,
        settings.run,
    )
    return UsageRules(request if request.limits else None, _price_of_machine, _with_prices)


def _price_of_machine(machine: Machine) -> Iterator[tuple[PriceSettings, str]]:
    """Ask AWS for the prices of this machine. boto3 is imported only here, where it is needed."""
    from keepfit.infra import aws
    from keepfit.infra.jobs.past_prices import PastMachine, present_prices

    here = PastMachine.of(
        machine.instance_type, machine.zone, machine.region, machine.price_class, datetime.now(UTC)
    )
    if here is None:
        return
    for found in present_prices(here, aws.client):
        prices = PriceSettings.model_construct(
            hourly_price=found.hourly, on_demand_price=found.on_demand
        )
        yield prices, "; ".join(found.gaps)


def _with_prices(found: RunJournals) -> RunJournals:
    """Return the journals with the prices that AWS knows of their machines."""
    from keepfit.job.reports.prices import fill_prices

    return replace(found, journals=fill_prices(found.journals, datetime.now(UTC)).journals)
