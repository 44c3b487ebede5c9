"""Ask AWS everything at once, and decide what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

from keepfit.infra.jobs.machines import Instance, on_demand_price
from keepfit.infra.jobs.queues import JobSize
from keepfit.infra.preflight import capacity, quotas, subnets
from keepfit.infra.preflight.findings import Answer, Finding, Severity, ask

_THREADS: Final = 8

ClientFactory = Callable[[str], Any]
"""Creates a client of a service."""


@dataclass(frozen=True)
class Pool:
    """A compute environment.

    Attributes:
        kind: its type, SPOT or EC2.
    """

    kind: str
    types: tuple[str, ...]
    subnets: tuple[str, ...]
    max_vcpus: int


@dataclass(frozen=True)
class PreflightRequest:
    """What is to be checked.

    Attributes:
        job: the size of the job.
        services: services besides the usual ones that its machines have to reach.
        gateway_tables: route tables that are going to have an endpoint of S3.
        submitting: the job is about to be submitted, so a quota that is too small for it refuses;
            a deployment can be created before its quota is raised.
        network_certain: machines are as `keepfit infra up` sets them, and subnets may refuse.
    """

    region: str
    pools: tuple[Pool, ...]
    job: JobSize
    services: tuple[str, ...] = ()
    gateway_tables: tuple[str, ...] = ()
    submitting: bool = True
    network_certain: bool = True


@dataclass(frozen=True)
class Capacity:
    """Where the job would run, at which price.

    Attributes:
        score: how likely Spot capacity is, from 1 to 10; None if it is not known.
    """

    offers: tuple[capacity.Offer, ...] = ()
    score: int | None = None


@dataclass(frozen=True)
class Preflight:
    """The results of all checks."""

    request: PreflightRequest
    findings: tuple[Finding, ...]
    capacity: Capacity = Capacity()

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """Return the findings of a severity."""
        return tuple(finding for finding in self.findings if finding.severity is severity)


def check(
    request: PreflightRequest, client: ClientFactory, now: datetime, *, prices: bool
) -> Preflight:
    """Check quotas and networks; with `prices`, also what machines cost and how likely they are.

    Without prices these are the quotas (one request for each group of families and kind) beside the
    subnets and their routes; endpoints follow if a subnet has no other way, and instance types if a
    quota is smaller than the deployment, as only then a machine can be too large for it.
    """
    ec2, service_quotas = client("ec2"), client("service-quotas")
    with ThreadPoolExecutor(_THREADS) as threads:
        asked = {
            group.code(pool.kind): threads.submit(_quota, service_quotas, group, pool.kind)
            for pool in request.pools
            for group in quotas.groups_of(pool.types)
        }
        network = threads.submit(_network, ec2, request)
        answers = {code: answer.result() for code, answer in asked.items()}
        values = {code: answer.value for code, answer in answers.items()}
        sizes: Answer[tuple[capacity.Machine, ...]] = Answer()
        if prices or _may_be_too_small(request, values):
            sizes = _sizes(ec2, request)
        machines = capacity.smallest_machines(sizes.value or (), request.job)
        known, unknown = network.result()
        found, gaps = Capacity(), list[Finding]()
        if prices:
            zones = {subnet.zone for subnet in known}
            found, gaps = _capacity(threads, client, request, machines, zones, now)
    compare = quotas.job_findings if request.submitting else quotas.deployment_findings
    demands = _demands(request, machines, sizes.value is not None)
    limits = compare(demands, values, request.region)
    skipped = [finding for answer in answers.values() for finding in answer.skipped]
    return Preflight(request, (*limits, *unknown, *skipped, *sizes.skipped, *gaps), found)


def _quota(client: Any, group: quotas.QuotaGroup, kind: str) -> Answer[float | None]:
    code = group.code(kind)
    thing = f"quota {group.title(kind)!r}"
    return ask(thing, quotas.ACTION, partial(quotas.read_quota, client, code))


def _sizes(ec2: Any, request: PreflightRequest) -> Answer[tuple[capacity.Machine, ...]]:
    types = sorted({name for pool in request.pools for name in pool.types})
    read = partial(capacity.read_machines, ec2, types)
    return ask("instance types", capacity.SIZES_ACTION, read)


def _may_be_too_small(request: PreflightRequest, values: Mapping[str, float | None]) -> bool:
    """Return whether a known quota is smaller than the limit of an environment."""
    return any(
        demand.exceeds(values)
        for pool in request.pools
        for group in quotas.groups_of(pool.types)
        for demand in (quotas.Demand(group, pool.kind, pool.max_vcpus, pool.max_vcpus),)
    )


def _demands(
    request: PreflightRequest, smallest: Sequence[capacity.Machine], known: bool
) -> list[quotas.Demand]:
    """Return what each environment asks of each quota.

    Args:
        known: the machines are known; otherwise one is assumed that is as large as the job.
    """
    found = []
    for pool in request.pools:
        for group in quotas.groups_of(pool.types):
            own = [
                machine.size.vcpus
                for machine in smallest
                if quotas.group_of(machine.type) is group
                and {machine.type, machine.family} & {*pool.types}
            ]
            chosen = not known or any("." not in t and _by_batch(t) for t in pool.types)
            least = min(own, default=request.job.vcpus if chosen else None)
            found.append(quotas.Demand(group, pool.kind, least, pool.max_vcpus))
    return found


def _by_batch(name: str) -> bool:
    return name.startswith(("optimal", "default_"))


def _network(
    ec2: Any, request: PreflightRequest
) -> tuple[tuple[subnets.Subnet, ...], tuple[Finding, ...]]:
    """Return the subnets, and what is missing or unknown."""
    ids = sorted({subnet for pool in request.pools for subnet in pool.subnets})
    if not ids:
        return (), ()
    described = ask("subnets", subnets.SUBNETS_ACTION, partial(subnets.read_subnets, ec2, ids))
    if not described.value:
        return (), described.skipped
    vpcs = {one["VpcId"] for one in described.value}
    tables = ask("routes", subnets.ROUTES_ACTION, partial(subnets.read_route_tables, ec2, vpcs))
    known = subnets.with_routes(described.value, tables.value or ())
    if tables.value is None or all(subnet.open for subnet in known):
        return known, tables.skipped
    endpoints = ask(
        "VPC endpoints",
        subnets.ENDPOINTS_ACTION,
        partial(subnets.read_endpoints, ec2, vpcs, request.region),
    )
    planned = [subnets.Endpoint(vpc, "s3", False, request.gateway_tables) for vpc in vpcs]
    there = None if endpoints.value is None else (*endpoints.value, *planned)
    found = subnets.subnet_findings(known, there, request.services, request.region)
    if not request.network_certain:
        found = tuple(_as_warning(finding) for finding in found)
    return known, (*found, *endpoints.skipped)


def _as_warning(finding: Finding) -> Finding:
    return Finding(Severity.WARNING, finding.thing, finding.reason, finding.fix)


def _capacity(
    threads: ThreadPoolExecutor,
    client: ClientFactory,
    request: PreflightRequest,
    machines: Sequence[capacity.Machine],
    zones: Iterable[str],
    now: datetime,
) -> tuple[Capacity, list[Finding]]:
    """Return prices and score of these machines, and what is not known of them."""
    if not machines:
        return Capacity(), []
    ec2, pricing = client("ec2"), client("pricing")
    types = [machine.type for machine in machines]
    spot = threads.submit(
        ask, "Spot prices", capacity.SPOT_ACTION,
        partial(capacity.read_spot_prices, ec2, types, now),
    )  # fmt: skip
    listed = [
        threads.submit(
            ask, f"on-demand price of {name}", capacity.PRICES_ACTION,
            partial(on_demand_price, pricing, Instance(name, ""), request.region),
        )
        for name in types
    ]  # fmt: skip
    wanted = max(1, round(request.job.vcpus))
    score: Answer[int] = Answer()
    if len(types) >= capacity.LEAST_TYPES_OF_A_SCORE and _uses_spot(request):
        score = ask(
            "placement score", capacity.SCORES_ACTION,
            partial(capacity.read_score, ec2, types, wanted, request.region),
        )  # fmt: skip
    on_demand = [answer.result() for answer in listed]
    prices = spot.result()
    known = {name: answer.value for name, answer in zip(types, on_demand, strict=True)}
    found = capacity.offers(machines, set(zones), prices.value or {}, known)
    gaps = [*prices.skipped, *_together(on_demand), *score.skipped]
    return Capacity(found, score.value), gaps


def _uses_spot(request: PreflightRequest) -> bool:
    return any(pool.kind == quotas.SPOT for pool in request.pools)


def _together(answers: Iterable[Answer[float]]) -> list[Finding]:
    """Return one finding for prices that are unknown for the same reason."""
    found = [finding for answer in answers for finding in answer.skipped]
    same = len({finding.reason for finding in found}) == 1 and len(found) > 1
    if not same:
        return found
    return [Finding(Severity.SKIPPED, "on-demand prices", found[0].reason)]
