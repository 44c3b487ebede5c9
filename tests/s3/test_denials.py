"""Every kind of denial, answered by a server on loopback, with the line that a person reads.

The messages are those of AWS' documentation: troubleshoot-403-errors in the user guide of S3, and
what users of KMS have published.
"""

from html import escape

import pytest
from typer.testing import CliRunner

from keepfit.callbacks.storage.base import StorageError, Transient
from keepfit.callbacks.storage.s3.address import Address
from keepfit.callbacks.storage.s3.options import RequestOptions
from keepfit.callbacks.storage.s3.retries import RetryPolicy
from keepfit.callbacks.storage.s3.store import S3Store
from keepfit.job.cli import app
from tests.s3.proxy import Answer, Proxy, always, s3_error
from tests.s3.samples import client_at, environment, store_of

URI = "s3://models/team"
WHO = "User: arn:aws:sts::111122223333:assumed-role/train/i-1 is not authorized to perform:"
KEY = "arn:aws:kms:eu-west-1:111122223333:key/0ab"
UNSET = RequestOptions()
ENCRYPTED = RequestOptions(sse="aws:kms", kms_key=KEY)
OWNED = RequestOptions(owner="111122223333", payer=True, sse="AES256")
ONCE = RetryPolicy(seconds=0.05, connect=5, read=5, longest_wait=0.01)

GET = '{"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": '
GET += '["arn:aws:s3:::models/team/*", "arn:aws:s3:::models"]}'
PUT = '{"Effect": "Allow", "Action": ["s3:PutObject"], "Resource": ["arn:aws:s3:::models/team/*"]}'
LIST = '{"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::models"}'
USE_KEY = '{"Effect": "Allow", "Action": ["kms:GenerateDataKey", "kms:Decrypt"], "Resource": '

OPERATIONS = {
    "put": lambda store: store.put("run/x", [b"x"]),
    "load": lambda store: store.load("run/x"),
    "list": lambda store: list(store.list("")),
}


def s3(action="s3:PutObject", target="team/run/x"):
    """Return the beginning of S3's message: who may not do what to what."""
    return f'{WHO} {action} on resource: "arn:aws:s3:::models/{target}"'


def kms(action="kms:GenerateDataKey"):
    """Return the beginning of KMS' message, which S3 hands on."""
    return f"{WHO} {action} on resource: {KEY}"


def no(policy, action="s3:PutObject"):
    """Return the end of a message about an implicit denial."""
    return f"because no {policy} allows the {action} action"


POLICIES = {
    "identity": (
        "put",
        f"{s3()} {no('identity-based policy')}",
        f"The job's role needs: {PUT}",
    ),
    "identity, at reading": (
        "load",
        f"{s3('s3:GetObject')} {no('identity-based policy', 's3:GetObject')}",
        f"The job's role needs: {GET}",
    ),
    "identity, at listing": (
        "list",
        f'{WHO} s3:ListBucket on resource: "arn:aws:s3:::models" '
        f"{no('identity-based policy', 's3:ListBucket')}",
        f"The job's role needs: {LIST}",
    ),
    "identity, another action than the request's": (
        "put",
        f"{s3('s3:GetObject')} {no('identity-based policy', 's3:GetObject')}",
        f"The job's role needs: {GET}",
    ),
    "identity, in another partition": (
        "put",
        f"{s3().replace('arn:aws:', 'arn:aws-cn:')} {no('identity-based policy')}",
        f"The job's role needs: {PUT.replace('arn:aws:', 'arn:aws-cn:')}",
    ),
    "identity, explicit": (
        "put",
        f"{s3()} with an explicit deny in an identity-based policy",
        "A policy of the job's role denies it: except the bucket from it",
    ),
    "bucket": (
        "put",
        f"{s3()} {no('resource-based policy')}",
        "The bucket's policy must allow s3:PutObject for the job's role, as a bucket of another "
        "account requires",
    ),
    "bucket, explicit, no encryption given": (
        "put",
        f"{s3()} with an explicit deny in a resource-based policy",
        "The bucket's policy denies it: if it demands encryption, set KEEPFIT_S3_SSE (and "
        "KEEPFIT_S3_KMS_KEY_ID) to what it demands",
    ),
    "bucket, explicit, at reading": (
        "load",
        f"{s3('s3:GetObject')} with an explicit deny in a resource-based policy",
        "The bucket's policy denies it: except the job's role from it, or fulfil its conditions "
        "for s3:GetObject",
    ),
    "service control": (
        "put",
        f"{WHO} s3:PutObject {no('service control policy')}",
        "A service control policy of the AWS organization does not allow it, whatever the job's "
        "role allows: ask an administrator of the organization",
    ),
    "service control, explicit": (
        "put",
        f"{WHO} s3:PutObject with an explicit deny in a service control policy",
        "A service control policy of the AWS organization denies it, whatever the job's role "
        "allows: ask an administrator of the organization",
    ),
    "resource control, explicit": (
        "put",
        f"{s3()} with an explicit deny in a resource control policy",
        "A resource control policy of the AWS organization denies it: if it demands encryption, "
        "set KEEPFIT_S3_SSE (and KEEPFIT_S3_KMS_KEY_ID) to what it demands, or ask an "
        "administrator of the organization",
    ),
    "boundary": (
        "put",
        f"{s3()} {no('permissions boundary')}",
        "The permissions boundary of the job's role does not allow it: allow s3:PutObject there "
        "as well",
    ),
    "boundary, explicit": (
        "put",
        f"{WHO} s3:PutObject with an explicit deny in a permissions boundary",
        "The permissions boundary of the job's role denies it: allow s3:PutObject there as well",
    ),
    "session": (
        "put",
        f"{WHO} s3:PutObject {no('session policy')}",
        "The credentials were issued with a session policy that does not allow it: request them "
        "with one that allows s3:PutObject",
    ),
    "session, explicit": (
        "put",
        f"{s3()} with an explicit deny in a session policy",
        "The credentials were issued with a session policy that denies it: request them with one "
        "that allows s3:PutObject",
    ),
    "VPC endpoint": (
        "put",
        f"{WHO} s3:PutObject {no('VPC endpoint policy')}",
        "The policy of the VPC endpoint through which this machine reaches S3 does not allow it: "
        "allow s3:PutObject on the bucket there",
    ),
    "VPC endpoint, explicit": (
        "put",
        f"{s3()} with an explicit deny in a VPC endpoint policy",
        "The policy of the VPC endpoint through which this machine reaches S3 denies it: allow "
        "s3:PutObject on the bucket there",
    ),
    "key, identity": (
        "put",
        f"{kms()} {no('identity-based policy', 'kms:GenerateDataKey')}",
        f'The job\'s role needs: {USE_KEY}"{KEY}"}}',
    ),
    "key, identity, at reading": (
        "load",
        f"{kms('kms:Decrypt')} {no('identity-based policy', 'kms:Decrypt')}",
        f'The job\'s role needs: {USE_KEY}"{KEY}"}}',
    ),
    "key, identity, not named": (
        "put",
        f"{WHO} kms:GenerateDataKey on this resource "
        f"{no('identity-based policy', 'kms:GenerateDataKey')}",
        f"The job's role needs: {USE_KEY}\"the key's ARN\"}}",
    ),
    "key, its own policy": (
        "put",
        f"{kms()} {no('resource-based policy', 'kms:GenerateDataKey')}",
        "The KMS key's policy must allow kms:GenerateDataKey and kms:Decrypt for the job's role, "
        "and the key must exist in the bucket's region",
    ),
    "key, another account or region": (
        "put",
        f"{WHO} kms:GenerateDataKey on this resource because the resource does not exist in this "
        f"Region, no resource-based policies allow access, or a resource-based policy explicitly "
        f"denies access",
        "The KMS key's policy must allow kms:GenerateDataKey and kms:Decrypt for the job's role, "
        "and the key must exist in the bucket's region",
    ),
    "key, service control": (
        "put",
        f"{kms()} with an explicit deny in a service control policy",
        "A service control policy of the AWS organization denies it, whatever the job's role "
        "allows: ask an administrator of the organization",
    ),
}
"""By policy: the operation, S3's message, and the end of the line."""

SAYS_NOTHING = "Access Denied"
UNNAMED = {
    "no reason": (
        "put",
        UNSET,
        "s3:PutObject is not allowed (AccessDenied: Access Denied). S3 does not say why; besides "
        "the role's policy: the bucket's requester pays (set KEEPFIT_S3_REQUEST_PAYER=1), or the "
        "bucket's policy demands encryption (set KEEPFIT_S3_SSE), or the bucket's policy or its "
        f"KMS key does not allow it. The job's role needs: {PUT}",
    ),
    "no reason, at reading": (
        "load",
        UNSET,
        "s3:GetObject is not allowed (AccessDenied: Access Denied). S3 does not say why; besides "
        "the role's policy: the bucket's requester pays (set KEEPFIT_S3_REQUEST_PAYER=1), or the "
        f"bucket's policy or its KMS key does not allow it. The job's role needs: {GET}",
    ),
    "another owner": (
        "list",
        OWNED,
        "s3:ListBucket is not allowed (AccessDenied: Access Denied). S3 does not say why; besides "
        "the role's policy: the bucket belongs to another account than "
        "KEEPFIT_S3_EXPECTED_BUCKET_OWNER=111122223333, or the bucket's policy or its KMS key "
        f"does not allow it. The job's role needs: {LIST}",
    ),
}
"""Denials without a reason, as S3 sends them to another account: by their options."""

MALFORMED = "The authorization header is malformed;"
OTHERS = {
    "disabled key": (
        (400, "KMS.DisabledException", f"{KEY} is disabled."),
        f"s3://models/team/run/x: S3 can't use the KMS key (KMS.DisabledException: {KEY} is "
        f"disabled.): enable the KMS key, or name another one in KEEPFIT_S3_KMS_KEY_ID (now: "
        f"KEEPFIT_S3_KMS_KEY_ID={KEY})",
    ),
    "key to be deleted": (
        (400, "KMS.KMSInvalidStateException", f"{KEY} is pending deletion."),
        f"s3://models/team/run/x: S3 can't use the KMS key (KMS.KMSInvalidStateException: {KEY} "
        f"is pending deletion.): cancel the deletion of the KMS key, or name another one in "
        f"KEEPFIT_S3_KMS_KEY_ID",
    ),
    "key of another region": (
        (400, "KMS.NotFoundException", "Invalid arn eu-west-1"),
        f"s3://models/team/run/x: S3 can't use the KMS key (KMS.NotFoundException: Invalid arn "
        f"eu-west-1): name a KMS key of the bucket's region in KEEPFIT_S3_KMS_KEY_ID (now: "
        f"KEEPFIT_S3_KMS_KEY_ID={KEY}); a key of another account is named by its ARN",
    ),
    "bucket demands another encryption": (
        (403, "AccessDenied", f"{s3()} with an explicit deny in a resource-based policy"),
        f"s3://models/team/run/x: access denied, s3:PutObject is not allowed (AccessDenied: {s3()} "
        f"with an explicit deny in a resource-based policy). The bucket's policy denies it: if it "
        f"demands encryption, it may demand other values than KEEPFIT_S3_SSE=aws:kms "
        f"KEEPFIT_S3_KMS_KEY_ID={KEY}",
    ),
    "server without KMS": (
        (501, "NotImplemented", "Server side encryption specified but KMS is not configured"),
        "s3://models/team/run/x: S3 refused the encryption (NotImplemented: Server side "
        "encryption specified but KMS is not configured): check KEEPFIT_S3_SSE=aws:kms and "
        "KEEPFIT_S3_KMS_KEY_ID",
    ),
    "redirect": (
        (301, "PermanentRedirect", "The bucket must be addressed using the specified endpoint."),
        "bucket 'models' is in another region: set AWS_REGION=eu-west-3 (PermanentRedirect: The "
        "bucket must be addressed using the specified endpoint.)",
    ),
    "malformed, region": (
        (400, "AuthorizationHeaderMalformed", f"{MALFORMED} the region 'us-east-1' is wrong"),
        "bucket 'models' is in another region: set AWS_REGION=eu-west-3 "
        f"(AuthorizationHeaderMalformed: {MALFORMED} the region 'us-east-1' is wrong)",
    ),
    "unknown key id": (
        (403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist."),
        "s3://models/team/run/x: S3 does not accept the AWS credentials (InvalidAccessKeyId: The "
        "AWS Access Key Id you provided does not exist.); check which are in use: the access key "
        "does not exist, or it is a temporary one without its AWS_SESSION_TOKEN",
    ),
    "wrong secret": (
        (403, "SignatureDoesNotMatch", "The request signature does not match."),
        "s3://models/team/run/x: S3 does not accept the AWS credentials (SignatureDoesNotMatch: "
        "The request signature does not match.); check which are in use: AWS_SECRET_ACCESS_KEY is "
        "not that of the access key, or a proxy changes the requests",
    ),
    "wrong token": (
        (400, "InvalidToken", "The provided token is malformed or otherwise invalid."),
        "s3://models/team/run/x: S3 does not accept the AWS credentials (InvalidToken: The "
        "provided token is malformed or otherwise invalid.); check which are in use: "
        "AWS_SESSION_TOKEN is not that of the access key",
    ),
    "expired token": (
        (400, "ExpiredToken", "The provided token has expired."),
        "s3://models/team/run/x: the AWS credentials have expired (ExpiredToken: The provided "
        "token has expired.); renew them",
    ),
    "clock": (
        (403, "RequestTimeTooSkewed", "The difference between the times is too large."),
        "s3://models/team/run/x: this machine's clock is wrong by more than 15 minutes; set it "
        "(RequestTimeTooSkewed: The difference between the times is too large.)",
    ),
    "no bucket": (
        (404, "NoSuchBucket", "The specified bucket does not exist"),
        "there is no bucket 'models': create it, or name another store",
    ),
    "archived": (
        (403, "InvalidObjectState", "The operation is not valid for the storage class."),
        "s3://models/team/run/x: S3 refused put_object (InvalidObjectState: The operation is not "
        "valid for the storage class.): the object is archived; restore it, and exclude the "
        "store's prefix from the bucket's lifecycle rules",
    ),
    "disabled account": (
        (403, "AllAccessDisabled", "All access to this object has been disabled"),
        "s3://models/team/run/x: S3 refused put_object (AllAccessDisabled: All access to this "
        "object has been disabled): AWS has disabled the account or the bucket; its owner can ask "
        "AWS",
    ),
    "key in use elsewhere": (
        (400, "KMS.ThrottlingException", "Rate exceeded"),
        "s3://models/team/run/x: S3 answered KMS.ThrottlingException: Rate exceeded",
    ),
}
"""By name: status, code and message of a refused write, and the line."""


@pytest.fixture(scope="module")
def refusing():
    """A server that answers as its test wants, and a client of it."""
    with Proxy(server="http://127.0.0.1:9") as proxy:
        with environment(AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x", AWS_REGION="us-east-1"):
            proxy.client = client_at(proxy.url, ONCE)
        yield proxy


def line_of(refusing, operation, answer, options=UNSET):
    """Return the line of the error that the operation raises after this answer."""
    region = {"x_amz_bucket_region": "eu-west-3"}
    status, code, message = answer
    refusing.arm(always(s3_error(status, code, escape(message), **region)))
    store = S3Store(Address.parse(URI), lambda: refusing.client, ONCE, options)
    with pytest.raises(StorageError) as caught:
        OPERATIONS[operation](store)
    transient = code in ("ExpiredToken", "KMS.ThrottlingException")
    assert isinstance(caught.value, Transient) == transient
    assert transient or len(refusing.requests) <= 2, "a refusal is not retried"
    return str(caught.value)


@pytest.mark.parametrize("case", POLICIES)
def test_denial_by_a_policy(case, refusing):
    """The line has the action and S3's own message, and its advice fits the kind of policy."""
    operation, message, fix = POLICIES[case]
    line = line_of(refusing, operation, (403, "AccessDenied", message))
    action = message.partition("perform:")[2].split()[0]
    where = URI if operation == "list" else f"{URI}/run/x"
    assert line == (
        f"{where}: access denied, {action} is not allowed (AccessDenied: {message}). {fix}"
    )


@pytest.mark.parametrize("case", UNNAMED)
def test_denial_without_a_reason(case, refusing):
    """The line names the causes that are possible with the options in use."""
    operation, options, end = UNNAMED[case]
    line = line_of(refusing, operation, (403, "AccessDenied", SAYS_NOTHING), options)
    where = URI if operation == "list" else f"{URI}/run/x"
    assert line == f"{where}: access denied, {end}"


@pytest.mark.parametrize("case", OTHERS)
def test_other_refusal(case, refusing):
    """Keys, credentials, regions and clocks: the line has S3's own message and the fix."""
    answer, line = OTHERS[case]
    assert line_of(refusing, "put", answer, ENCRYPTED) == line


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (301, "bucket 'models' is in another region: set AWS_REGION=… (301: Moved Permanently)"),
        (403, "s3:PutObject is not allowed (403: Forbidden). S3 does not say why"),
    ],
)
def test_an_answer_without_a_body(status, words, refusing):
    """A proxy's answer, or one to HEAD: the status stands for the reason."""
    reason = {301: "Moved Permanently", 403: "Forbidden"}[status]
    empty = Answer(status, reason, [], b"").to_bytes()
    refusing.arm(always(lambda exchange: exchange.send(empty)))
    with pytest.raises(StorageError) as caught:
        OPERATIONS["put"](store_of(refusing.client, URI, ONCE))
    assert words in str(caught.value)


def test_malformed_header_for_another_reason(refusing):
    """It is not taken for a wrong region."""
    message = f"{MALFORMED} a non-empty Access Key (AKID) must be provided in the credential."
    refusing.arm(always(s3_error(400, "AuthorizationHeaderMalformed", message)))
    with pytest.raises(StorageError) as caught:
        OPERATIONS["put"](store_of(refusing.client, URI, ONCE))
    assert str(caught.value).endswith(
        f"S3 refused put_object: AuthorizationHeaderMalformed: {message}"
    )


def test_a_long_message_is_cut(refusing):
    """A server can't fill the log; the cut is visible."""
    line = line_of(refusing, "put", (403, "AccessDenied", f"{'very ' * 10_000}long"))
    assert len(line) < 1500
    assert "…). S3 does not say why" in line


def test_a_command(refusing):
    """`keepfit ls` ends with exit code 78 and this line only."""
    message = POLICIES["identity, at listing"][1]
    refusing.arm(always(s3_error(403, "AccessDenied", escape(message))))
    with environment(
        AWS_ENDPOINT_URL_S3=refusing.url, AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x"
    ):
        ended = CliRunner().invoke(app, ["ls", URI])
    assert ended.exit_code == 78
    (line,) = ended.stderr.splitlines()
    assert message in line
