"""The price of a queue's machines, where it is known before a job runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean
from typing import Any

from keepfit.infra.aws import AwsError, explain_errors
from keepfit.infra.jobs import machines
from keepfit.infra.jobs.machines import Instance
from keepfit.infra.jobs.spot_history import spot_history

_SPOT, _ON_DEMAND = "SPOT", "EC2"
"""The types of a compute environment."""


@dataclass(frozen=True)
class Prices:
    """What a machine costs, in dollars an hour; None if that is not known.

    Attributes:
        hourly: what is paid for it.
        on_demand: what it costs on demand.
        gaps: for each price that AWS does not tell, a clause that says why.
    """

    hourly: float | None = None
    on_demand: float | None = None
    gaps: tuple[str, ...] = ()


def only_type(compute: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the instance type of all machines of these environments; None if there are several.

    A family ("c6i"), or types that AWS Batch chooses ("optimal"), are several.
    """
    resources = [environment.get("computeResources", {}) for environment in compute]
    types = {name for one in resources for name in one.get("instanceTypes") or ("",)}
    return next(iter(types)) if len(types) == 1 and all("." in name for name in types) else None


def find_prices(
    compute: Sequence[Mapping[str, Any]],
    client: Callable[[str], Any],
    region: str,
    now: datetime,
) -> Prices:
    """Return the prices of a queue's machines, if they are all of one type.

    The price of a Spot machine is the mean over the region's zones at the moment. If the queue has
    both kinds of machines, what is paid for one depends on the attempt, so it is not known.

    Args:
        compute: the queue's compute environments.
    """
    name = only_type(compute)
    if name is None:
        return Prices()
    kinds = {environment["computeResources"].get("type") for environment in compute}
    gaps: list[str] = []

    def ask(price: Callable[[], float]) -> float | None:
        try:
            return price()
        except AwsError as error:
            gaps.append(str(error))
            return None

    on_demand = ask(lambda: machines.on_demand_price(client("pricing"), Instance(name, ""), region))
    hourly = on_demand if kinds == {_ON_DEMAND} else None
    if kinds == {_SPOT}:
        hourly = ask(lambda: current_spot_price(client("ec2"), name, now))
    return Prices(hourly, on_demand, tuple(gaps))


def current_spot_price(ec2: Any, name: str, now: datetime) -> float:
    """Return the mean of the present Spot prices of an instance type in the region's zones.

    Raises:
        AwsError: AWS refuses the request or knows no price.
    """
    with explain_errors("the Spot price"):
        found = spot_history(ec2, [name], now, now)
    if not found:
        raise AwsError(f"EC2 has no Spot price of {name}")
    return fmean({price.zone: price.dollars for price in found}.values())  # the newest of each
