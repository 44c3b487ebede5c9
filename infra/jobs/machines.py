"""The machine that an attempt ran on, and its price."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from keepfit.infra.aws import AwsError, explain_errors
from keepfit.infra.jobs import queues
from keepfit.infra.jobs.lookup import Attempt
from keepfit.infra.jobs.spot_history import spot_history


class NoPrice(AwsError):
    """AWS knows no price of the machine."""


@dataclass(frozen=True)
class Instance:
    """An EC2 instance."""

    type: str
    zone: str


def find_instance(ecs: Any, arn: str) -> Instance | None:
    """Return the EC2 instance of an ECS container instance; None once it is gone.

    Raises:
        AwsError: AWS refuses the request or does not answer.
    """
    cluster = cluster_of(arn)
    if not cluster:
        return None
    with explain_errors("the instance type"):
        found = ecs.describe_container_instances(cluster=cluster, containerInstances=[arn])
    for instance in found["containerInstances"]:
        attributes = {a["name"]: a.get("value", "") for a in instance.get("attributes", ())}
        if "ecs.instance-type" in attributes:
            return Instance(
                attributes["ecs.instance-type"], attributes.get("ecs.availability-zone", "")
            )
    return None


def cluster_of(arn: str) -> str:
    """Return the ECS cluster of a container instance."""
    cluster, found, _ = arn.partition("container-instance/")[2].partition("/")
    return cluster if found else ""  # ARNs from before 2018 do not contain it


def on_demand_clusters(batch: Any, queue: str) -> frozenset[str]:
    """Return the clusters of a queue's compute environments that have no Spot machines.

    Raises:
        AwsError: AWS refuses the request or does not answer.
    """
    with explain_errors("whether machines are Spot machines"):
        _, found = queues.describe_queue(batch, queue)
    return frozenset(
        environment["ecsClusterArn"].rpartition("/")[2]
        for environment in found
        if environment.get("computeResources", {}).get("type") == "EC2"
    )


def spot_price(ec2: Any, machine: Instance, attempt: Attempt, now: datetime) -> float:
    """Return the mean price over the attempt's time, in dollars an hour.

    Raises:
        AwsError: AWS refuses the request or knows no price.
    """
    began, ended = attempt.began or now, attempt.ended or now
    with explain_errors("the Spot price"):
        found = spot_history(ec2, [machine.type], began, ended, machine.zone)
    if not found:
        raise NoPrice(f"EC2 has no Spot price of {machine.type}")
    return mean_price([(price.time, price.dollars) for price in found], began, ended)


def mean_price(changes: list[tuple[datetime, float]], began: datetime, ended: datetime) -> float:
    """Return the mean price between two times, given each change of the price."""
    times = [max(began, time) for time, _ in changes[1:]] + [ended]
    start, dollars = began, 0.0
    for (_, price), until in zip(changes, times, strict=True):
        dollars += price * (until - start).total_seconds()
        start = until
    seconds = (ended - began).total_seconds()
    return dollars / seconds if seconds > 0 else changes[-1][1]


def on_demand_price(pricing: Any, machine: Instance, region: str) -> float:
    """Return the on-demand price of the price list, in dollars an hour.

    Raises:
        AwsError: AWS refuses the request or knows no price.
    """
    wanted = {
        "instanceType": machine.type,
        "regionCode": region,
        "operatingSystem": "Linux",
        "preInstalledSw": "NA",
        "tenancy": "Shared",
        "capacitystatus": "Used",
    }
    filters = [{"Type": "TERM_MATCH", "Field": k, "Value": v} for k, v in wanted.items()]
    with explain_errors("the on-demand price"):
        found = pricing.get_products(ServiceCode="AmazonEC2", Filters=filters)["PriceList"]
    for product in map(json.loads, found):
        for term in product["terms"].get("OnDemand", {}).values():
            for dimension in term["priceDimensions"].values():
                return float(dimension["pricePerUnit"]["USD"])
    raise NoPrice(f"the price list has no {machine.type} in {region}")


def hours(attempt: Attempt, now: datetime) -> float:
    """Return how long the attempt has run, in hours."""
    if attempt.began is None:
        return 0.0
    return ((attempt.ended or now) - attempt.began).total_seconds() / 3600
