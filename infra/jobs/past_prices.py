"""What machines have cost that may be gone: by type, zone and time, from EC2 and the price list.

EC2 remembers Spot prices for 90 days. One request covers all machines of one type in one zone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Self

from keepfit.infra.aws import AwsError, explain_errors
from keepfit.infra.jobs import machines
from keepfit.infra.jobs.machines import Instance, NoPrice
from keepfit.infra.jobs.prices import Prices
from keepfit.infra.jobs.spot_history import spot_history

REMEMBERED: Final = timedelta(days=90)
"""How long EC2 remembers Spot prices."""

MAX_KINDS: Final = 50
"""Largest number of types, and of types in a zone, whose prices are asked for."""

Client = Callable[[str, str | None], Any]
"""Returns the client of a service in a region; None for the configured one."""

Changes = list[tuple[datetime, float]]
"""The changes of a price in the order of their times."""


@dataclass(frozen=True)
class PastMachine:
    """A machine, and the time for which it was used.

    Attributes:
        price_class: how it is paid: "spot", "on-demand", or as EC2 names it otherwise.
    """

    type: str
    zone: str
    region: str
    price_class: str
    began: datetime
    ended: datetime

    @classmethod
    def of(
        cls,
        name: str | None,
        zone: str | None,
        region: str | None,
        price_class: str | None,
        began: datetime,
        ended: datetime | None = None,
    ) -> Self | None:
        """Return the machine; None if one of the facts that its price depends on is not known."""
        if not (name and region and price_class) or (price_class == "spot" and not zone):
            return None
        return cls(name, zone or "", region, price_class, began, ended or began)


def present_prices(machine: PastMachine, client: Client) -> Iterator[Prices]:
    """Yield what a machine costs at the moment `machine.began`, each price as soon as it is known.

    That of a Spot machine comes first: where a network has no way to the price list, the answer
    that there is none takes long.
    """
    ask = _Asker(client, machine.began)
    paid = None
    if machine.price_class == "spot":
        changes = ask.spot_changes([machine]).get((machine.region, machine.type, machine.zone))
        paid = _mean(changes, machine.began, machine.ended) if changes else None
        yield Prices(paid, None, tuple(ask.gaps))
    full = ask.on_demand_prices([machine]).get((machine.region, machine.type))
    paid = full if machine.price_class == "on-demand" else paid
    yield Prices(paid, full, tuple(ask.gaps))


def past_prices(
    asked: Sequence[PastMachine], client: Client, now: datetime
) -> tuple[tuple[Prices, ...], tuple[str, ...]]:
    """Return the prices of each machine, and why some of them are not known.

    The price of a Spot machine is the mean over its time; a price list has no past, so that of a
    machine on demand is the present one. What AWS refuses once is not asked for again.
    """
    ask = _Asker(client, now)
    spot = ask.spot_changes([machine for machine in asked if machine.price_class == "spot"])
    on_demand = ask.on_demand_prices(asked)
    found = []
    for machine in asked:
        full = on_demand.get((machine.region, machine.type))
        paid = full if machine.price_class == "on-demand" else None
        changes = spot.get((machine.region, machine.type, machine.zone))
        if changes and machine.price_class == "spot" and ask.remembers(machine):
            paid = _mean(changes, machine.began, machine.ended)
        found.append(Prices(paid, full))
    return tuple(found), tuple(dict.fromkeys(ask.gaps))


class _Asker:
    """Asks for prices, and notes which are not known."""

    def __init__(self, client: Client, now: datetime) -> None:
        self._client = client
        self._now = now
        self._refused: set[str] = set()
        self.gaps: list[str] = []

    def remembers(self, machine: PastMachine) -> bool:
        """Return whether EC2 still has the prices of that time."""
        return machine.began >= self._now - REMEMBERED

    def spot_changes(self, asked: Sequence[PastMachine]) -> Mapping[tuple[str, str, str], Changes]:
        """Return the changes of the Spot price by region, type and zone."""
        kinds: dict[tuple[str, str, str], list[PastMachine]] = {}
        forgotten = 0
        for machine in asked:
            if self.remembers(machine):
                kinds.setdefault((machine.region, machine.type, machine.zone), []).append(machine)
            else:
                forgotten += 1
        if forgotten:
            self.gaps.append(f"EC2 has forgotten the Spot prices of {forgotten} attempts: 90 days")
        found = {}
        for region, name, zone in self._first(kinds):
            used = kinds[region, name, zone]
            began, ended = min(m.began for m in used), max(m.ended for m in used)
            instance = Instance(name, zone)

            def changes(
                region: str = region,
                instance: Instance = instance,
                began: datetime = began,
                ended: datetime = ended,
            ) -> Changes:
                return spot_changes(self._client("ec2", region), instance, began, ended)

            if (answer := self._ask("ec2", changes)) is not None:
                found[region, name, zone] = answer
        return found

    def on_demand_prices(self, asked: Sequence[PastMachine]) -> Mapping[tuple[str, str], float]:
        """Return the prices on demand by region and type."""
        kinds = dict.fromkeys((machine.region, machine.type) for machine in asked)
        found = {}
        for region, name in self._first(kinds):

            def price(region: str = region, name: str = name) -> float:
                pricing = self._client("pricing", None)
                return machines.on_demand_price(pricing, Instance(name, ""), region)

            if (answer := self._ask("pricing", price)) is not None:
                found[region, name] = answer
        return found

    def _first(self, kinds: Mapping[Any, Any]) -> list[Any]:
        """Return the kinds of machines that are asked for."""
        if (more := len(kinds) - MAX_KINDS) > 0:
            self.gaps.append(f"the prices of {more} more kinds of machines are not asked for")
        return list(kinds)[:MAX_KINDS]

    def _ask(self, service: str, price: Callable[[], Any]) -> Any:
        if service in self._refused:
            return None
        try:
            return price()
        except NoPrice as error:
            self.gaps.append(str(error))
        except AwsError as error:
            self._refused.add(service)
            self.gaps.append(str(error))
        return None


def spot_changes(ec2: Any, machine: Instance, began: datetime, ended: datetime) -> Changes:
    """Return the Spot prices of a type in a zone, the one that was valid at `began` included.

    Raises:
        NoPrice: EC2 knows none.
        AwsError: AWS refuses the request or does not answer.
    """
    with explain_errors("the Spot price"):
        found = spot_history(ec2, [machine.type], began, ended, machine.zone)
    if not found:
        raise NoPrice(f"EC2 has no Spot price of {machine.type}")
    return [(price.time, price.dollars) for price in found]


def _mean(changes: Changes, began: datetime, ended: datetime) -> float:
    """Return the mean price over a part of the time of these changes."""
    valid = [n for n, (time, _) in enumerate(changes) if time <= began]
    since = changes[valid[-1] if valid else 0 :]
    during = [change for change in since if change[0] < ended or change[0] <= began]
    return machines.mean_price(during or changes[:1], began, ended)
