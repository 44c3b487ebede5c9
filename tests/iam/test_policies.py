"""The check of policies, and their evaluation, on policies that are wrong in one way each."""

from __future__ import annotations

import pytest

from tests.iam.lint import all_findings, findings
from tests.iam.policies import Request, allows, refused
from tests.iam.templates import ACCOUNT, resolve, role_statements

BUCKET = "arn:aws:s3:::bucket"
JOB = f"arn:aws:batch:{ACCOUNT}:job/*"


def statement(actions, resources, effect="Allow", **conditions):
    """Return a statement; a condition is given as StringLike={"s3:prefix": "runs/*"}."""
    return {
        "Effect": effect,
        "Action": actions,
        "Resource": resources,
        **({"Condition": conditions} if conditions else {}),
    }


def test_the_policies_of_the_templates():
    """Nothing is found in them."""
    assert all_findings() == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (statement("s3:GetObjekt", f"{BUCKET}/*"), "there is no action s3:GetObjekt"),
        (statement("s4:GetObject", f"{BUCKET}/*"), "there is no action s4:GetObject"),
        (statement("s3:GetObject", BUCKET), f"s3:GetObject applies to none of {BUCKET}"),
        (statement("s3:ListBucket", f"{BUCKET}/*"), "s3:ListBucket applies to none of"),
        (statement("s3:ListBucket", [BUCKET, f"{BUCKET}/*"]), f"applies to {BUCKET}/*"),
        (
            statement(
                ["s3:ListBucket", "s3:ListBucketMultipartUploads"],
                BUCKET,
                StringLike={"s3:prefix": "runs/*"},
            ),
            "s3:ListBucketMultipartUploads has no condition key s3:prefix",
        ),
        (statement("batch:SubmitJob", "*"), "batch:SubmitJob can be restricted to resources"),
        (statement("batch:DescribeJobs", JOB), "batch:DescribeJobs applies to none of"),
    ],
)
def test_what_is_found(wrong, words):
    """One line names action, key or resource."""
    assert any(words in finding for finding in findings(wrong)), list(findings(wrong))


@pytest.mark.parametrize(
    "right",
    [
        statement("s3:Get*", f"{BUCKET}/runs/*"),
        statement("s3:ListBucket", BUCKET, StringLike={"s3:prefix": "runs/*"}),
        statement("s3:*", [BUCKET, f"{BUCKET}/*"], "Deny", Bool={"aws:SecureTransport": "false"}),
        statement(["batch:SubmitJob", "batch:TagResource"], JOB),
        statement("batch:DescribeJobs", "*"),
        statement(
            "kms:Decrypt", f"arn:aws:kms:{ACCOUNT}:key/0", StringLike={"kms:ViaService": "s"}
        ),
    ],
)
def test_what_is_right(right):
    """Nothing is found."""
    assert list(findings(right)) == []


LISTS = statement(
    ["s3:ListBucket", "s3:ListBucketMultipartUploads"], BUCKET, StringLike={"s3:prefix": "runs/*"}
)
READS = statement("s3:Get*", f"{BUCKET}/runs/*")
OVER_TLS = statement("s3:*", [BUCKET, f"{BUCKET}/*"], "Deny", Bool={"aws:SecureTransport": "false"})


@pytest.mark.parametrize(
    ("statements", "request_", "allowed"),
    [
        ([READS], Request("s3:GetObject", f"{BUCKET}/runs/a/b"), True),
        ([statement("S3:get*", "*")], Request("s3:GetObject", f"{BUCKET}/runs/a"), True),
        ([READS], Request("s3:GetObject", f"{BUCKET}/other/a"), False),
        ([READS], Request("s3:PutObject", f"{BUCKET}/runs/a"), False),
        ([], Request("s3:GetObject", f"{BUCKET}/runs/a"), False),
        ([LISTS], Request("s3:ListBucket", BUCKET, {"s3:prefix": "runs/a"}), True),
        ([LISTS], Request("s3:ListBucket", BUCKET, {"s3:prefix": "other"}), False),
        ([LISTS], Request("s3:ListBucket", BUCKET), False),
        # The request has a prefix, but IAM does not know it for this action.
        ([LISTS], Request("s3:ListBucketMultipartUploads", BUCKET, {"s3:prefix": "runs/a"}), False),
        (
            [READS, OVER_TLS],
            Request("s3:GetObject", f"{BUCKET}/runs/a", {"aws:SecureTransport": "true"}),
            True,
        ),
        (
            [READS, OVER_TLS],
            Request("s3:GetObject", f"{BUCKET}/runs/a", {"aws:SecureTransport": "false"}),
            False,
        ),
        (
            [statement("s3:GetObject", "*", StringEqualsIfExists={"s3:prefix": "x"})],
            Request("s3:GetObject", f"{BUCKET}/a"),
            True,
        ),
        (
            [statement("s3:GetObject", "*", StringEquals={"aws:SourceAccount": ["1", "2"]})],
            Request("s3:GetObject", f"{BUCKET}/a", {"aws:SourceAccount": "2"}),
            True,
        ),
    ],
)
def test_evaluation(statements, request_, allowed):
    """One statement must allow and none deny; a condition on a key that is absent is not met."""
    assert allows(statements, request_) is allowed
    assert refused(statements, [request_] * 2) == ([] if allowed else [str(request_)])


def test_an_unknown_operator_is_an_error():
    """Rather than a condition that is never checked."""
    unknown = statement("s3:GetObject", "*", NumericLessThan={"aws:SourceAccount": "2"})
    request = Request("s3:GetObject", f"{BUCKET}/a", {"aws:SourceAccount": "1"})
    with pytest.raises(KeyError, match="NumericLessThan"):
        allows([unknown], request)


def test_templates_are_resolved():
    """References, texts with references and conditions have their sample values."""
    (key,) = [s for s in role_statements("storage", "JobRole") if s["Sid"] == "KeyThroughS3"]
    assert key["Condition"] == {"StringLike": {"kms:ViaService": "s3.us-east-1.amazonaws.com*"}}
    with pytest.raises(LookupError, match="'Nothing' has no sample value"):
        resolve({"Ref": "Nothing"}, {})
