"""The IAM requests that a call of an AWS service makes."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs, unquote

from tests.iam.policies import Request

TLS = {"aws:SecureTransport": "true"}


def of_s3_request(request) -> list[Request]:
    """Return the requests of an HTTP request to S3, recorded by a proxy.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
    """
    _, bucket, *key = request.path.split("/", 2)
    query = parse_qs(request.query, keep_blank_values=True)
    target = unquote(key[0]) if key and key[0] else ""
    headers = {name.lower(): value for name, value in request.headers}
    arn = f"arn:aws:s3:::{bucket}"
    if not target:
        assert request.method == "GET", request
        action = "s3:ListBucketMultipartUploads" if "uploads" in query else "s3:ListBucket"
        keys = {f"s3:{name}": values[0] for name, values in query.items()}
        return [Request(action, arn, {**keys, **TLS})]
    if request.method == "DELETE":
        action = "s3:AbortMultipartUpload" if "uploadId" in query else "s3:DeleteObject"
        return [Request(action, f"{arn}/{target}", TLS)]
    reads = request.method in ("GET", "HEAD")
    found = [Request("s3:GetObject" if reads else "s3:PutObject", f"{arn}/{target}", TLS)]
    if source := headers.get("x-amz-copy-source"):
        found.append(Request("s3:GetObject", f"arn:aws:s3:::{unquote(source)}", TLS))
    elif "if-match" in headers:  # S3 compares with what is there, so it also asks for its reading
        found.append(Request("s3:GetObject", f"{arn}/{target}", TLS))
    return found


def of_call(service: str, operation: str, parameters: Mapping) -> list[Request]:
    """Return the requests of a call of a boto3 client."""
    return CALLS[service, operation](parameters)


def _submit_job(parameters: Mapping) -> list[Request]:
    """Return the requests of SubmitJob.

    With tags it also asks for batch:TagResource, of the definition, as users of AWS have reported
    (wri/gfw-data-api, pull request 175), and perhaps of the queue; the reference names the job.
    """
    queue = parameters["jobQueue"]
    job = f"{queue.rpartition(':')[0]}:job/0b1c"
    resources = (queue, parameters["jobDefinition"], job)
    actions = ["batch:SubmitJob", *(["batch:TagResource"] if parameters.get("tags") else [])]
    return [Request(action, resource) for action in actions for resource in resources]


def _list_objects(parameters: Mapping) -> list[Request]:
    keys = {"s3:prefix": parameters["Prefix"], **TLS}
    return [Request("s3:ListBucket", f"arn:aws:s3:::{parameters['Bucket']}", keys)]


CALLS = {
    ("batch", "DescribeJobs"): lambda _: [Request("batch:DescribeJobs", "*")],
    ("batch", "ListJobs"): lambda _: [Request("batch:ListJobs", "*")],
    ("batch", "SubmitJob"): _submit_job,
    ("s3", "ListObjectsV2"): _list_objects,
    ("sns", "Publish"): lambda p: [Request("sns:Publish", p["TopicArn"])],
}
"""By service and operation."""
