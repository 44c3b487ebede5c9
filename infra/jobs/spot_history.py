"""The history of Spot prices, as EC2 has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from keepfit.infra.aws import AwsError

MAX_PAGES: Final = 20
"""Largest number of answers: each has up to 1000 changes of a price."""


@dataclass(frozen=True)
class SpotPrice:
    """A price from a time on, in dollars an hour."""

    time: datetime
    type: str
    zone: str
    dollars: float


def spot_history(
    ec2: Any, types: Sequence[str], began: datetime, ended: datetime, zone: str = ""
) -> list[SpotPrice]:
    """Return the Spot prices by time, those that were valid at `began` included.

    To be called within `explain_errors`: it raises boto3's errors.

    Args:
        types: instance types.
        zone: the only zone; empty: all zones of the region.

    Raises:
        AwsError: there are too many prices.
    """
    request: dict[str, Any] = {
        "InstanceTypes": list(types),
        "ProductDescriptions": ["Linux/UNIX"],
        "StartTime": began,
        "EndTime": ended,
        **({"AvailabilityZone": zone} if zone else {}),
    }
    found: list[SpotPrice] = []
    for _ in range(MAX_PAGES):
        answer = ec2.describe_spot_price_history(**request)
        found += map(_price, answer["SpotPriceHistory"])
        if not answer.get("NextToken"):
            return sorted(found, key=lambda price: price.time)
        request["NextToken"] = answer["NextToken"]
    raise AwsError(f"the Spot price: EC2 has too many prices of {', '.join(types)}")


def _price(found: dict[str, Any]) -> SpotPrice:
    return SpotPrice(
        found["Timestamp"],
        found["InstanceType"],
        found["AvailabilityZone"],
        float(found["SpotPrice"]),
    )
