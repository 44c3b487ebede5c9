"""The sources of facts about a machine: its environment, its metadata service, and that of ECS.

Each returns fields of the journal's Machine by name; a field that is not known is missing.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.request import Request

from keepfit.job.notices.exchange import HttpClient
from keepfit.job.notices.imds import InstanceMetadata

ECS_VARIABLE: Final = "ECS_CONTAINER_METADATA_URI_V4"
"""Set by the agent of ECS: the address of a JSON document about this container."""

IMDS_PATHS: Final = {
    "instance_type": "instance-type",
    "instance_id": "instance-id",
    "price_class": "instance-life-cycle",
    "region": "placement/region",
    "zone": "placement/availability-zone",
}
"""The paths below /latest/meta-data/, by field."""

BATCH_VARIABLES: Final = {"job": "AWS_BATCH_JOB_ID", "job_attempt": "AWS_BATCH_JOB_ATTEMPT"}

Facts = dict[str, Any]


def fitting(facts: Mapping[str, Any]) -> Facts:
    """Return the facts that fit the schema of the journal; one that does not is not known."""
    found = {
        name: value.strip() if isinstance(value, str) else value for name, value in facts.items()
    }
    return {name: value for name, value in found.items() if _fits(name, value)}


def facts_of_environment(environment: Mapping[str, str], host: str) -> Facts:
    """Return what is known without a request; whether it fits the schema is not checked.

    Args:
        host: the host name of this machine.
    """
    found = {name: environment.get(variable) for name, variable in BATCH_VARIABLES.items()}
    return {"host": host, **found}


def facts_of_imds(imds: InstanceMetadata) -> Iterator[Facts]:
    """Yield what the instance metadata service of EC2 says, each fact as soon as it is known.

    Raises:
        SourceUnavailable: the service can't be used.
    """
    for name, path in IMDS_PATHS.items():
        yield fitting({name: imds.get(path)})


def facts_of_ecs(address: str) -> Iterator[Facts]:
    """Yield what the metadata endpoint of ECS (version 4) says about this container and its log.

    Raises:
        SourceUnavailable: the endpoint does not answer.
    """
    # Without the environment's proxies: the address is that of this machine.
    client = HttpClient(address, use_proxies=False)
    answer = client.send(lambda: Request(address))  # noqa: S310 # other schemes are refused
    if answer.status == http.client.OK:
        yield fitting(parse_container(answer.text))


def parse_container(text: str) -> Facts:
    """Return the facts in a document about a container.

    The log's region is not stored apart, so a log in another region than the container's is left
    out.
    """
    try:
        container = json.loads(text)
    except (ValueError, RecursionError):  # not JSON, or nested too deep
        return {}
    if not isinstance(container, dict):
        return {}
    region = _region_of(container.get("ContainerARN"))
    options = container.get("LogOptions")
    facts: Facts = {"region": region} if region else {}
    if not isinstance(options, dict) or container.get("LogDriver") != "awslogs":
        return facts
    if region is None or options.get("awslogs-region", region) != region:
        return facts
    return facts | {
        "log_group": options.get("awslogs-group"),
        "log_stream": options.get("awslogs-stream"),
    }


def _region_of(arn: object) -> str | None:
    """Return the region in an ARN of ECS, `arn:PARTITION:ecs:REGION:ACCOUNT:RESOURCE`."""
    parts = arn.split(":", 5) if isinstance(arn, str) else []
    return parts[3] if len(parts) == 6 and parts[3] else None


def _fits(name: str, value: Any) -> bool:
    # The library of journals is large, and a script without a fit has none.
    from pydantic import ValidationError

    from keepfit.callbacks.journal.document import Machine

    if value is None or (isinstance(value, str) and not value.isprintable()):
        return False
    try:
        Machine.model_validate({name: value})
    except ValidationError:
        return False
    return True
