"""Machines that fit a job, their prices now, and how likely Spot capacity is."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean
from typing import Any, Final

from keepfit.infra.aws import AwsError, explain_errors
from keepfit.infra.jobs.queues import JobSize
from keepfit.infra.jobs.spot_history import spot_history

SIZES_ACTION: Final = "ec2:DescribeInstanceTypes"
SPOT_ACTION: Final = "ec2:DescribeSpotPriceHistory"
PRICES_ACTION: Final = "pricing:GetProducts"
SCORES_ACTION: Final = "ec2:GetSpotPlacementScores"

LEAST_TYPES_OF_A_SCORE: Final = 3
"""With fewer types, EC2 documents that the score is always low, so it is not asked for."""

_CHOSEN_BY_BATCH: Final = ("optimal", "default_")
_SIZE: Final = re.compile(r"[a-z0-9-]+\.[a-z0-9-]+")


@dataclass(frozen=True)
class Machine:
    """An instance type; `size.memory` is in MiB."""

    type: str
    size: JobSize

    @property
    def family(self) -> str:
        """The part of the type's name before the size."""
        return self.type.partition(".")[0]


@dataclass(frozen=True)
class Offer:
    """What a machine costs now, in dollars an hour.

    Attributes:
        zones: zones of the subnets in which it has a Spot price.
        spot: the mean price of these zones; None if it is not known.
        on_demand: None if it is not known.
    """

    machine: Machine
    zones: tuple[str, ...] = ()
    spot: float | None = None
    on_demand: float | None = None

    @property
    def saving(self) -> float | None:
        """The part of the on-demand price that Spot saves; negative if Spot costs more."""
        if self.spot is None or not self.on_demand:
            return None
        return 1 - self.spot / self.on_demand


def read_machines(ec2: Any, types: Iterable[str]) -> tuple[Machine, ...]:
    """Return the machines of types and families; none for those that AWS Batch chooses.

    Raises:
        AwsError: AWS refuses the request or does not answer.
    """
    known = sorted(name for name in set(types) if not name.startswith(_CHOSEN_BY_BATCH))
    if not known:
        return ()
    patterns = [name if _SIZE.fullmatch(name) else f"{name}.*" for name in known]
    with explain_errors("the sizes of machines"):
        pages = ec2.get_paginator("describe_instance_types").paginate(
            Filters=[{"Name": "instance-type", "Values": patterns}]
        )
        found = [one for page in pages for one in page["InstanceTypes"]]
    return tuple(_machine(one) for one in found)


def smallest_machines(machines: Iterable[Machine], job: JobSize) -> tuple[Machine, ...]:
    """Return the smallest machine of each family that can run the job, the smallest first.

    AWS Batch may start larger ones, on which several jobs run.
    """
    smallest: dict[str, Machine] = {}
    for machine in sorted(machines, key=_order):
        if job.fits(machine.size):
            smallest.setdefault(machine.family, machine)
    return tuple(smallest.values())


def read_spot_prices(
    ec2: Any, types: Collection[str], now: datetime
) -> dict[str, dict[str, float]]:
    """Return the present Spot price of each type in each zone of the region, with one request.

    Raises:
        AwsError: AWS refuses the request or does not answer.
    """
    with explain_errors("the Spot prices"):
        found = spot_history(ec2, sorted(types), now, now)
    prices: dict[str, dict[str, float]] = {}
    for price in found:
        prices.setdefault(price.type, {})[price.zone] = price.dollars
    return prices


def read_score(ec2: Any, types: Collection[str], vcpus: int, region: str) -> int:
    """Return how likely Spot capacity of these types is in the region, from 1 to 10.

    EC2 limits how many different requests an account may make in 24 hours, so this is for commands
    that people type rarely, and one request is for all types together.

    Raises:
        AwsError: AWS refuses the request, or has no score.
    """
    with explain_errors("the placement score"):
        found = ec2.get_spot_placement_scores(
            InstanceTypes=sorted(types),
            TargetCapacity=vcpus,
            TargetCapacityUnitType="vcpu",
            RegionNames=[region],
        )["SpotPlacementScores"]
    scores = [one["Score"] for one in found if one.get("Region") == region]
    if not scores:
        raise AwsError(f"EC2 has no placement score of {region}")
    return int(scores[0])


def offers(
    machines: Sequence[Machine],
    zones: Collection[str],
    spot: Mapping[str, Mapping[str, float]],
    on_demand: Mapping[str, float | None],
) -> tuple[Offer, ...]:
    """Combine machines with prices.

    Args:
        zones: the subnets' zones; empty if they are not known, and then all of the region.
    """
    found = []
    for machine in machines:
        prices = {
            zone: price
            for zone, price in spot.get(machine.type, {}).items()
            if not zones or zone in zones
        }
        mean = fmean(prices.values()) if prices else None
        found.append(Offer(machine, tuple(sorted(prices)), mean, on_demand.get(machine.type)))
    return tuple(found)


def _machine(found: Mapping[str, Any]) -> Machine:
    gpus = found.get("GpuInfo", {}).get("Gpus", ())
    size = JobSize(
        found["VCpuInfo"]["DefaultVCpus"],
        found["MemoryInfo"]["SizeInMiB"],
        sum(gpu.get("Count", 0) for gpu in gpus),
    )
    return Machine(found["InstanceType"], size)


def _order(machine: Machine) -> tuple[float, int, int, str]:
    return machine.size.vcpus, machine.size.gpus, machine.size.memory, machine.type
