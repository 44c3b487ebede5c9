"""The report on a job: its attempts, its machines, and what they have cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from keepfit.infra.aws import AwsError
from keepfit.infra.jobs import machines
from keepfit.infra.jobs.lookup import Attempt, Job, region_of
from keepfit.infra.jobs.machines import Instance

Client = Callable[..., Any]
"""Creates the client of a service, in the given region or the usual one."""


@dataclass(frozen=True)
class RecordedMachine:
    """The machine that the journal of an attempt names, and its price in dollars an hour."""

    instance: Instance
    hourly: float | None
    on_demand: float | None


Recorded = Mapping[tuple[str, int], RecordedMachine]
"""The recorded machines by job and number of the attempt in it."""


@dataclass(frozen=True)
class CostReport:
    """The known facts of a job, for users and programs.

    Attributes:
        ran_on: the machine of each attempt by its number, where its journal names it or AWS still
            knows it.
        so_far: dollars for whole machines during the attempts; None if unknown.
        on_demand: dollars for the same machines at the on-demand price; None if unknown.
        gaps: for each unknown fact, a clause that says why it is unknown.
    """

    job: Job
    ran_on: dict[int, Instance]
    so_far: float | None
    on_demand: float | None
    gaps: tuple[str, ...]


def report_costs(
    job: Job, client: Client, region: str, now: datetime, recorded: Recorded | None = None
) -> CostReport:
    """Ask AWS for all facts of the job; a fact that is not available is a gap, not an error.

    Args:
        recorded: what the journals say; AWS is asked for the other attempts only.
    """
    client = cache(client)
    gaps: list[str] = []
    known = {
        attempt.number: recorded[attempt.job, attempt.job_attempt]
        for attempt in job.attempts
        if recorded and (attempt.job, attempt.job_attempt) in recorded
    }
    ran_on = {number: machine.instance for number, machine in known.items()}
    ran_on |= _machines([a for a in job.attempts if a.number not in known], client, gaps)
    located = [a for a in job.attempts if a.number in ran_on]
    if missing := len([a for a in job.attempts if a.began]) - len(located):
        gaps.append(
            f"the machines of {missing} attempts are gone, and no journal names them: their cost "
            "is not known"
        )

    def dollars(price: Callable[[Attempt, Instance], float]) -> float | None:
        try:
            costs = [price(a, ran_on[a.number]) * machines.hours(a, now) for a in located]
        except AwsError as error:
            gaps.append(str(error))
            return None
        return sum(costs) if costs else None

    @cache
    def listed_price(machine: Instance, region: str) -> float:
        return machines.on_demand_price(client("pricing"), machine, region)

    def full_price(attempt: Attempt, machine: Instance) -> float:
        return listed_price(machine, attempt.region or region)

    @cache
    def clusters(queue: str) -> frozenset[str]:
        batch = client("batch", region_of(queue))
        return machines.on_demand_clusters(batch, queue)

    def full_price_of(attempt: Attempt, machine: Instance) -> float:
        if attempt.number in known and (price := known[attempt.number].on_demand) is not None:
            return price
        return full_price(attempt, machine)

    def paid_price(attempt: Attempt, machine: Instance) -> float:
        if attempt.number in known and (price := known[attempt.number].hourly) is not None:
            return price
        if machines.cluster_of(attempt.machine or "") in clusters(attempt.queue):
            return full_price(attempt, machine)
        return machines.spot_price(client("ec2", attempt.region), machine, attempt, now)

    so_far = dollars(paid_price)
    on_demand = dollars(full_price_of)
    return CostReport(job, ran_on, so_far, on_demand, tuple(dict.fromkeys(gaps)))


def _machines(attempts: Sequence[Attempt], client: Client, gaps: list[str]) -> dict[int, Instance]:
    instances: dict[int, Instance] = {}
    try:
        for attempt in attempts:
            if attempt.machine and (
                machine := machines.find_instance(client("ecs", attempt.region), attempt.machine)
            ):
                instances[attempt.number] = machine
    except AwsError as error:
        gaps.append(str(error))
    return instances
