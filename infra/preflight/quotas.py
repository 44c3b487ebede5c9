"""Service quotas of EC2: how many vCPUs an account may run, by groups of instance families.

AWS Batch does not report a quota: a job whose machine would exceed it stays RUNNABLE.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import ClientError

from keepfit.infra.aws import code_of, explain_errors
from keepfit.infra.preflight.findings import Finding, Severity

ACTION: Final = "servicequotas:GetServiceQuota"

SPOT, ON_DEMAND = "SPOT", "EC2"
"""The types of a compute environment."""

_STANDARD: Final = "Standard (A, C, D, H, I, M, R, T, Z)"
_NO_SUCH_QUOTA: Final = "NoSuchResourceException"
_LETTERS: Final = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class QuotaGroup:
    """Instance families that share a quota.

    Attributes:
        families: the letters with which the families' names begin.
        spot, on_demand: the codes of the quotas of Service Quotas.
    """

    name: str
    families: tuple[str, ...]
    spot: str
    on_demand: str

    def code(self, kind: str) -> str:
        """Return the code of the quota for a type of compute environment."""
        return self.spot if kind == SPOT else self.on_demand

    def title(self, kind: str) -> str:
        """Return the quota's name as Service Quotas shows it."""
        if kind == SPOT:
            return f"All {self.name} Spot Instance Requests"
        return f"Running On-Demand {self.name} instances"


GROUPS: Final = (
    QuotaGroup(
        _STANDARD,
        ("a", "c", "d", "h", "i", "im", "is", "m", "r", "t", "z"),
        "L-34B43A08",
        "L-1216C47A",
    ),
    QuotaGroup("G and VT", ("g", "gr", "vt"), "L-3819A6DF", "L-DB2E81BA"),
    QuotaGroup("P", ("p",), "L-7212CCBC", "L-417A185B"),
    QuotaGroup("DL", ("dl",), "L-85EED4F7", "L-6E869C2A"),
    QuotaGroup("F", ("f",), "L-88CF9481", "L-74FC7D96"),
    QuotaGroup("Inf", ("inf",), "L-B5D1601B", "L-1945791B"),
    QuotaGroup("Trn", ("trn",), "L-5480EFD2", "L-2C3B7624"),
    QuotaGroup("X", ("x",), "L-E3A00192", "L-7295265B"),
)

_BY_FAMILY: Final = {family: group for group in GROUPS for family in group.families}
_CHOSEN_BY_BATCH: Final = ("optimal", "default_")


def group_of(instance_type: str) -> QuotaGroup | None:
    """Return the quota's group of a type or family; None if it is not known.

    The types that AWS Batch chooses itself ("optimal") are standard ones.
    """
    if instance_type.startswith(_CHOSEN_BY_BATCH):
        return GROUPS[0]
    letters = _LETTERS.match(instance_type)
    return _BY_FAMILY.get(letters[0]) if letters else None


def groups_of(types: Iterable[str]) -> tuple[QuotaGroup, ...]:
    """Return the groups of these types, in the order of the table."""
    found = {group_of(name) for name in types}
    return tuple(group for group in GROUPS if group in found)


def read_quota(quotas: Any, code: str) -> float | None:
    """Return the value of one of EC2's quotas, in vCPUs; None if the region does not have it.

    Raises:
        AwsError: AWS refuses the request or does not answer.
    """
    with explain_errors(f"quota {code}"):
        try:
            answer = quotas.get_service_quota(ServiceCode="ec2", QuotaCode=code)
        except ClientError as error:
            if code_of(error) == _NO_SUCH_QUOTA:
                return None
            raise
    return float(answer["Quota"]["Value"])


@dataclass(frozen=True)
class Demand:
    """vCPUs that a compute environment asks of one quota.

    Attributes:
        kind: the type of the compute environment.
        least: vCPUs of its smallest machine that can run the job; None if it has none.
        most: the limit of the environment.
    """

    group: QuotaGroup
    kind: str
    least: float | None
    most: int

    def quota(self, values: Mapping[str, float | None]) -> float | None:
        """Return the quota's value, by the codes of quotas."""
        return values.get(self.group.code(self.kind))

    def exceeds(self, values: Mapping[str, float | None]) -> bool:
        """Return whether the quota is known, and too small for the smallest machine."""
        value = self.quota(values)
        return value is not None and self.least is not None and self.least > value


def deployment_findings(
    demands: Sequence[Demand], values: Mapping[str, float | None], region: str
) -> tuple[Finding, ...]:
    """Compare the limits of a deployment with quotas; a quota can be raised later, so none refuses.

    Args:
        values: vCPUs by the codes of quotas; None if it is not known.
    """
    found = []
    for demand in demands:
        value = demand.quota(values)
        if value is not None and value < demand.most:
            stuck = ", so no machine can start" if demand.exceeds(values) else ""
            reason = f"{value:g} vCPUs{stuck}; the deployment may use {demand.most}"
            found.append(_finding(Severity.WARNING, demand, reason, demand.most, region))
    return tuple(dict.fromkeys(found))


def job_findings(
    demands: Sequence[Demand], values: Mapping[str, float | None], region: str
) -> tuple[Finding, ...]:
    """Compare the smallest machines for a job with quotas.

    Refused: none of them can start. A quota that is not known is no reason.

    Args:
        values: vCPUs by the codes of quotas; None if it is not known.
    """
    able = [demand for demand in demands if demand.least is not None]
    blocked = [demand for demand in able if demand.exceeds(values)]
    severity = Severity.REFUSED if len(blocked) == len(able) else Severity.WARNING
    found = []
    for demand in blocked:
        least = demand.least or 0
        reason = (
            f"{demand.quota(values):g} vCPUs, and the smallest machine for the job has {least:g}: "
            f"it would wait forever"
        )
        found.append(_finding(severity, demand, reason, least, region))
    return tuple(dict.fromkeys(found))


def _finding(
    severity: Severity, demand: Demand, reason: str, wanted: float, region: str
) -> Finding:
    code = demand.group.code(demand.kind)
    fix = (
        f"aws service-quotas request-service-quota-increase --service-code ec2 "
        f"--quota-code {code} --desired-value {wanted:g} --region {region}"
    )
    return Finding(severity, f"quota {demand.group.title(demand.kind)!r}", reason, fix)
