"""Parse S3's access-denied messages, and advise the policy change that would allow the request.

The messages: docs.aws.amazon.com/AmazonS3/latest/userguide/troubleshoot-403-errors.html
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum

from keepfit.callbacks.storage.s3.address import Address
from keepfit.callbacks.storage.s3.options import EXPECTED_OWNER, KMS_KEY, PAYER, SSE, RequestOptions

_ACTION = re.compile(r"not authorized to perform: ([\w-]+:\w+)")
_RESOURCE = re.compile(r'on resource: "?(arn:[^\s"]+)')
_POLICY = re.compile(
    r"(?P<explicit>explicit deny in an?|because no) (?P<policy>identity-based policy"
    r"|resource-based policy|service control policy|resource control policy"
    r"|permissions boundary|session policy|VPC endpoint policy)",
    re.IGNORECASE,
)
_KMS_KEY_POLICY = "no resource-based policies allow access"
"""Part of a message of KMS that leaves open whether the key exists in the region."""

_BUCKET_ACTIONS = frozenset({"s3:ListBucket", "s3:ListBucketMultipartUploads"})
_KMS_ACTIONS = ("kms:GenerateDataKey", "kms:Decrypt")


class Policy(StrEnum):
    """The kinds of policies that AWS evaluates, as its messages call them."""

    IDENTITY = "identity-based policy"
    RESOURCE = "resource-based policy"
    SERVICE_CONTROL = "service control policy"
    RESOURCE_CONTROL = "resource control policy"
    BOUNDARY = "permissions boundary"
    SESSION = "session policy"
    VPC_ENDPOINT = "vpc endpoint policy"


@dataclass(frozen=True)
class Denial:
    """A denied request.

    Attributes:
        action: the IAM action that is not allowed.
        resource: the ARN to which the action was applied; empty if S3 does not name it.
        policy: the kind of policy that decided; None if S3 does not name it.
        explicit: the policy denies the action; otherwise, no policy of this kind allows it.
    """

    action: str
    resource: str = ""
    policy: Policy | None = None
    explicit: bool = False

    @property
    def of_key(self) -> bool:
        """True if the use of a KMS key was denied, not that of the bucket."""
        return self.action.startswith("kms:")

    @property
    def target(self) -> str:
        return "key" if self.of_key else "bucket"

    @property
    def verb(self) -> str:
        return "denies" if self.explicit else "does not allow"


def parse_denial(message: str, requested: str) -> Denial:
    """Return the denial that S3's message describes.

    Args:
        requested: the action of the request, for a message that names none.
    """
    action, resource = _ACTION.search(message), _RESOURCE.search(message)
    found = _POLICY.search(message)
    policy = Policy(found["policy"].lower()) if found else None
    if not found and _KMS_KEY_POLICY in message:
        policy = Policy.RESOURCE
    return Denial(
        action[1] if action else requested,
        resource[1] if resource else "",
        policy,
        explicit=found is not None and found["explicit"].lower().startswith("explicit"),
    )


def advice(denial: Denial, address: Address, options: RequestOptions) -> str:
    """Return which change would allow the action."""
    needs = f"The job's role needs: {_statement(denial, address, options)}"
    match denial.policy:
        case None:
            return f"{_other_causes(denial.action, options)}. {needs}"
        case Policy.IDENTITY if denial.explicit:
            return f"A policy of the job's role denies it: except the {denial.target} from it"
        case Policy.IDENTITY:
            return needs
        case Policy.RESOURCE:
            return _resource_advice(denial, options)
        case Policy.SERVICE_CONTROL:
            return (
                f"A service control policy of the AWS organization {denial.verb} it, whatever the "
                f"job's role allows: ask an administrator of the organization"
            )
        case Policy.RESOURCE_CONTROL:
            return (
                f"A resource control policy of the AWS organization {denial.verb} it: "
                f"{_conditions(denial, options)}, or ask an administrator of the organization"
            )
    return _limit_advice(denial, denial.policy)


def _resource_advice(denial: Denial, options: RequestOptions) -> str:
    """Return the change of the bucket's or the key's own policy."""
    if denial.of_key:
        return (
            f"The KMS key's policy must allow {' and '.join(_KMS_ACTIONS)} for the job's role, "
            f"and the key must exist in the bucket's region"
        )
    if denial.explicit:
        return f"The bucket's policy denies it: {_conditions(denial, options)}"
    return (
        f"The bucket's policy must allow {denial.action} for the job's role, as a bucket of "
        f"another account requires"
    )


def _limit_advice(denial: Denial, policy: Policy) -> str:
    """Return the change of a policy that only limits what the role's policies allow."""
    action, verb = denial.action, denial.verb
    if policy is Policy.BOUNDARY:
        return f"The permissions boundary of the job's role {verb} it: allow {action} there as well"
    if policy is Policy.SESSION:
        return (
            f"The credentials were issued with a session policy that {verb} it: request them "
            f"with one that allows {action}"
        )
    return (
        f"The policy of the VPC endpoint through which this machine reaches S3 {verb} it: "
        f"allow {action} on the {denial.target} there"
    )


def key_advice(code: str, options: RequestOptions) -> str:
    """Return what to change after an error of KMS that is not a denial."""
    named = f"{KMS_KEY}={options.kms_key}" if options.kms_key else "the bucket's default encryption"
    if code == "KMS.DisabledException":
        return f"enable the KMS key, or name another one in {KMS_KEY} (now: {named})"
    if code == "KMS.KMSInvalidStateException":
        return f"cancel the deletion of the KMS key, or name another one in {KMS_KEY}"
    if code == "KMS.NotFoundException":
        return (
            f"name a KMS key of the bucket's region in {KMS_KEY} (now: {named}); a key of another "
            f"account is named by its ARN"
        )
    return f"check the KMS key (now: {named})"


def _conditions(denial: Denial, options: RequestOptions) -> str:
    """Return how to fulfil the condition of a Deny statement."""
    if denial.action != "s3:PutObject":
        return f"except the job's role from it, or fulfil its conditions for {denial.action}"
    if not options.sse:
        return f"if it demands encryption, set {SSE} (and {KMS_KEY}) to what it demands"
    given = f"{SSE}={options.sse}" + (f" {KMS_KEY}={options.kms_key}" if options.kms_key else "")
    return f"if it demands encryption, it may demand other values than {given}"


def _other_causes(action: str, options: RequestOptions) -> str:
    """Return the causes that S3 never names, as far as they are possible with these options."""
    causes = []
    if options.owner:
        causes.append(
            f"the bucket belongs to another account than {EXPECTED_OWNER}={options.owner}"
        )
    if not options.payer:
        causes.append(f"the bucket's requester pays (set {PAYER}=1)")
    if action == "s3:PutObject" and not options.sse:
        causes.append(f"the bucket's policy demands encryption (set {SSE})")
    causes.append("the bucket's policy or its KMS key does not allow it")
    return f"S3 does not say why; besides the role's policy: {', or '.join(causes)}"


def _statement(denial: Denial, address: Address, options: RequestOptions) -> str:
    """Return the policy statement that allows the action."""
    partition = denial.resource.split(":")[1] if denial.resource else "aws"
    action, bucket = denial.action, f"arn:{partition}:s3:::{address.bucket}"
    actions: str | list[str] = [action]
    resources: str | list[str] = [f"{bucket}/{address.prefix}*"]
    if denial.of_key:
        named = options.kms_key if options.kms_key.startswith("arn:") else ""
        actions = list(dict.fromkeys((*_KMS_ACTIONS, action)))
        resources = denial.resource or named or "the key's ARN"
    elif action in _BUCKET_ACTIONS:
        actions, resources = action, bucket
    elif action == "s3:GetObject":
        # Without ListBucket, S3 answers 403 instead of 404 for an object that does not exist.
        actions, resources = [action, "s3:ListBucket"], [*resources, bucket]
    return json.dumps({"Effect": "Allow", "Action": actions, "Resource": resources})
