"""Checks of a deployment before its stacks are created or changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from keepfit.infra.jobs.queues import JobSize
from keepfit.infra.jobs.secret_arns import services_of
from keepfit.infra.preflight.check import Pool, PreflightRequest
from keepfit.infra.stacks.request import DeploymentRequest
from keepfit.job.commands.deployment import preflight

DEFAULT_MAX_VCPUS: Final = 64
"""The template's default."""


def check_deployment(
    asked: DeploymentRequest,
    before: Mapping[str, str],
    regional: Mapping[str, str],
    region: str,
    *,
    prices: bool,
) -> None:
    """Show machines, prices and what is missing; exit if machines could work in no new subnet.

    Args:
        before: the current parameters of the compute stack; empty if it does not exist.
        regional: its new parameters, at least those that depend on the region.
        prices: show machines and prices too. EC2 limits the requests for a placement score.
    """
    found = preflight.run_checks(_preflight_request(asked, before, regional, region), prices=prices)
    preflight.show(found)
    preflight.refuse(found)


def _preflight_request(
    asked: DeploymentRequest, before: Mapping[str, str], regional: Mapping[str, str], region: str
) -> PreflightRequest:
    parameters = {**before, **regional}
    spot = asked.max_vcpus or int(parameters.get("MaxVcpus", DEFAULT_MAX_VCPUS))
    on_demand = asked.on_demand_vcpus
    if on_demand is None:
        on_demand = int(parameters.get("OnDemandVcpus", "0"))
    gpu = parameters.get("Gpu") == "true" if asked.gpu is None else asked.gpu
    types, subnets = _items(parameters, "InstanceTypes"), _items(parameters, "Subnets")
    pools = [Pool("SPOT", types, subnets, spot), Pool("EC2", types, subnets, on_demand)]
    secrets = _items(parameters, "Secrets") if asked.secrets is None else asked.secrets
    tables = _items(parameters, "RouteTables") if asked.route_tables is None else asked.route_tables
    return PreflightRequest(
        region=region,
        pools=tuple(pool for pool in pools if pool.max_vcpus),
        # The size that the template's job definition has.
        job=JobSize(2, 4096, int(gpu)),
        services=services_of(secrets),
        gateway_tables=tables,
        submitting=False,
        # A deployment that exists may work in a way that routes do not show.
        network_certain="Subnets" in regional,
    )


def _items(parameters: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(filter(None, parameters.get(name, "").split(",")))
