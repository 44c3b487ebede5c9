"""Encryption, the bucket's owner and the payer: every request has the options that it supports."""

import ast
import os
from urllib.parse import parse_qs

import pytest
from typer.testing import CliRunner

from keepfit.callbacks.storage import open_store
from keepfit.callbacks.storage.base import StorageError
from keepfit.callbacks.storage.s3 import multipart
from keepfit.callbacks.storage.s3 import store as s3_store
from keepfit.callbacks.storage.s3.client import make_client
from keepfit.callbacks.storage.s3.options import (
    BUCKET_KEY,
    EXPECTED_OWNER,
    KMS_KEY,
    PAYER,
    SSE,
    VARIABLES,
    RequestOptions,
    set_variables,
)
from keepfit.callbacks.storage.s3.transfer import Transfer
from keepfit.job.cli import app
from tests.checkpoint.samples import RUN, take_over
from tests.e2e.process import ROOT
from tests.s3.proxy import s3_error
from tests.s3.samples import QUICK, assert_resumes, environment, small

KEY = "arn:aws:kms:us-east-1:000000000000:key/0ab3f8e2-8a57-4c5c-9d9b-000000000000"
ACCOUNT = "000000000000"
"""The account of LocalStack."""

ROOMS = ("callbacks", "job", "infra")
ALL = {SSE: "aws:kms", KMS_KEY: KEY, BUCKET_KEY: "1", EXPECTED_OWNER: ACCOUNT, PAYER: "requester"}
ENCRYPTION = {
    "x-amz-server-side-encryption": "aws:kms",
    "x-amz-server-side-encryption-aws-kms-key-id": KEY,
    "x-amz-server-side-encryption-bucket-key-enabled": "true",
}
OWNER_AND_PAYER = {"x-amz-expected-bucket-owner": ACCOUNT, "x-amz-request-payer": "requester"}


@pytest.fixture
def options(monkeypatch):
    """Return a function that sets these variables, and no others of the options."""

    def use(**given):
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in given.items():
            monkeypatch.setenv(name, value)

    use()
    return use


def operation_of(request):
    """Return the name of the request's operation in S3's API."""
    query = parse_qs(request.query, keep_blank_values=True)
    key = request.path.strip("/").partition("/")[2]
    copies = "x-amz-copy-source" in {name.lower() for name, _ in request.headers}
    match request.method:
        case "GET" if not key:
            return "ListMultipartUploads" if "uploads" in query else "ListObjectsV2"
        case "GET" | "HEAD":
            return "GetObject" if request.method == "GET" else "HeadObject"
        case "POST":
            return "CreateMultipartUpload" if "uploads" in query else "CompleteMultipartUpload"
        case "PUT" if "partNumber" in query:
            return "UploadPartCopy" if copies else "UploadPart"
        case "PUT":
            return "CopyObject" if copies else "PutObject"
        case "DELETE":
            return "AbortMultipartUpload" if "uploadId" in query else "DeleteObject"
    raise AssertionError(request)


ENCRYPTING = {"PutObject", "CreateMultipartUpload", "CopyObject"}
"""The operations that write an object; parts are encrypted as their upload says."""

USED = ENCRYPTING | {
    *("GetObject", "HeadObject", "ListObjectsV2", "ListMultipartUploads", "DeleteObject"),
    *("UploadPart", "UploadPartCopy", "CompleteMultipartUpload", "AbortMultipartUpload"),
}
"""All operations that keepfit uses."""


def test_every_request_has_the_options(options, proxy, fresh, s3, tmp_path, monkeypatch):
    """Commit, read, prune, fence, move, list and the files of callbacks, small and in parts."""
    uri = fresh().uri
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
    options(**ALL)
    proxy.arm()
    store = open_store(uri)
    attempt = take_over(store, keep=1)
    attempt.commit(small(1))
    lost = {"Bucket": bucket, "Key": f"{prefix}/{RUN}/shards/0001-lost"}
    s3.create_multipart_upload(**lost)
    attempt = take_over(store, keep=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multipart, "MAX_SINGLE_PUT", 300)
        attempt.commit(small(2))
    attempt.sweep()
    assert_resumes(store, 2)
    where = (RUN, "--store", uri)
    for command in (["ls", uri], ["verify", *where], ["prune", *where, "--yes"]):
        ended = CliRunner().invoke(app, command)
        assert ended.exit_code == 0, ended.output
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3_store, "MAX_SINGLE_COPY", 100)
        store.move(RUN, "old")
    assert list(store.folders("")) == ["old"]
    large = tmp_path / "large"
    large.write_bytes(b"x" * (9 << 20))
    transfer = Transfer.open(QUICK)
    transfer.upload(str(large), f"{uri}/files/large")
    transfer.download(f"{uri}/files/large", str(tmp_path / "copy"))
    transfer.sizes(f"{uri}/files")
    transfer.remove(f"{uri}/files/large")

    seen = set()
    for request in proxy.requests:
        operation = operation_of(request)
        seen.add(operation)
        headers = {name.lower(): value for name, value in request.headers}
        expected = OWNER_AND_PAYER | (ENCRYPTION if operation in ENCRYPTING else {})
        assert expected.items() <= headers.items(), (operation, headers)
        if operation in ("CopyObject", "UploadPartCopy"):
            assert headers["x-amz-source-expected-bucket-owner"] == ACCOUNT
        if operation not in ENCRYPTING:
            assert not headers.keys() & ENCRYPTION.keys(), operation
    assert seen >= USED - {"UploadPartCopy"}, USED - seen
    for entry in s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/old/")["Contents"]:
        found = s3.head_object(Bucket=bucket, Key=entry["Key"])
        assert found["ServerSideEncryption"] == "aws:kms", entry["Key"]
        assert found["SSEKMSKeyId"] == KEY


def test_every_operation_of_s3_gets_what_it_supports():
    """botocore's model decides: no operation that supports an option is left out, new ones too."""
    with environment(AWS_REGION="us-east-1"):
        client = make_client(QUICK, RequestOptions.of(ALL))
    model = client.meta.service_model
    expected = RequestOptions.of(ALL).parameters()
    assert len(expected) == 6
    counts = dict.fromkeys(expected, 0)
    for name in model.operation_names:
        operation, params = model.operation_model(name), {}
        client.meta.events.emit(
            f"before-parameter-build.s3.{name}", params=params, model=operation, context={}
        )
        members = operation.input_shape.members if operation.input_shape else {}
        known = {option for option in expected if option in members}
        assert params.keys() & expected.keys() == known, name
        assert {option: params[option] for option in known} == {o: expected[o] for o in known}
        for option in known:
            counts[option] += 1
    assert min(counts.values()) >= 2, counts


MAKERS = {
    "callbacks/storage/s3/client.py": "make_client",
    "infra/functions/resubmit.py": "newest_step",
    "job/commands/deployment/s3_access.py": "s3_client",
}
"""The only functions that make a client of S3: each one adds the options."""


def test_no_other_client_of_s3_is_made():
    """A client made elsewhere would send requests without the options."""
    found = {}
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            for call in ast.walk(function) if isinstance(function, ast.FunctionDef) else ():
                match call:
                    case ast.Call(
                        func=ast.Attribute(attr="client" | "resource"),
                        args=[ast.Constant(value="s3"), *_],
                    ):
                        found[str(path.relative_to(ROOT))] = function.name
    assert found == MAKERS


def test_no_options_change_no_request(options, proxy, fresh):
    """Without the variables, requests are as they were: the bucket decides."""
    with environment(AWS_ENDPOINT_URL_S3=proxy.url):
        store = open_store(fresh().uri)
    proxy.arm()
    store.put("a", [b"x"])
    (request,) = proxy.requests
    sent = {name.lower() for name, _ in request.headers}
    assert not sent & (ENCRYPTION.keys() | OWNER_AND_PAYER.keys())


DENIED = s3_error(403, "AccessDenied", "Access Denied")


def owner_check(_, request):
    """Deny requests that expect another owner, as S3 does; LocalStack does not."""
    headers = {name.lower(): value for name, value in request.headers}
    expected = headers.get("x-amz-expected-bucket-owner", ACCOUNT)
    return None if expected == ACCOUNT else DENIED


def payer_check(_, request):
    """Deny requests that don't agree to pay, as S3 does for other accounts than the owner."""
    pays = ("x-amz-request-payer", "requester")
    return None if pays in [(name.lower(), value) for name, value in request.headers] else DENIED


@pytest.mark.parametrize(
    ("check", "wrong", "right", "words"),
    [
        (
            owner_check,
            {EXPECTED_OWNER: "9" * 12},
            {EXPECTED_OWNER: ACCOUNT},
            f"another account than {EXPECTED_OWNER}=9999",
        ),
        (payer_check, {PAYER: "no"}, {PAYER: "yes"}, f"requester pays (set {PAYER}=1)"),
    ],
)
def test_denied_without_the_option(check, wrong, right, words, options, proxy, fresh):
    """The denial names the option, and with the right value the same store works."""
    uri = fresh().uri
    proxy.arm(check)
    with environment(AWS_ENDPOINT_URL_S3=proxy.url):
        options(**wrong)
        with pytest.raises(StorageError) as caught:
            take_over(open_store(uri))
        options(**right)
        take_over(open_store(uri)).commit(small(1))
    assert "access denied" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        (dict.fromkeys(VARIABLES, ""), {}),
        ({SSE: "AES256"}, {"ServerSideEncryption": "AES256"}),
        ({SSE: "aws:kms"}, {"ServerSideEncryption": "aws:kms"}),
        (
            {SSE: "aws:kms", BUCKET_KEY: "no"},
            {"ServerSideEncryption": "aws:kms", "BucketKeyEnabled": False},
        ),
        (
            {SSE: "aws:kms:dsse", KMS_KEY: "alias/runs"},
            {"ServerSideEncryption": "aws:kms:dsse", "SSEKMSKeyId": "alias/runs"},
        ),
        ({PAYER: "True"}, {"RequestPayer": "requester"}),
        ({PAYER: "0"}, {}),
    ],
)
def test_parameters(given, expected):
    """An empty variable is no variable, and what is not set is not sent."""
    assert RequestOptions.of(given).parameters() == expected


FAULTS = {
    "unknown algorithm": ({SSE: "AES-256"}, f"{SSE} must be one of AES256, aws:kms, aws:kms:dsse"),
    "key without encryption": ({KMS_KEY: KEY}, f"{KMS_KEY} needs {SSE}=aws:kms"),
    "key of another encryption": (
        {SSE: "AES256", KMS_KEY: KEY},
        f"{KMS_KEY} needs {SSE}=aws:kms or {SSE}=aws:kms:dsse",
    ),
    "key with a space": ({SSE: "aws:kms", KMS_KEY: "my key"}, f"{KMS_KEY} must be the id"),
    "key with a line break": ({SSE: "aws:kms", KMS_KEY: f"{KEY}\n"}, f"{KMS_KEY} must be the id"),
    "bucket key without encryption": ({BUCKET_KEY: "1"}, f"{BUCKET_KEY} needs {SSE}=aws:kms"),
    "bucket key of another encryption": (
        {SSE: "aws:kms:dsse", BUCKET_KEY: "0"},
        f"{BUCKET_KEY} needs {SSE}=aws:kms",
    ),
    "no boolean": ({SSE: "aws:kms", BUCKET_KEY: "maybe"}, f"{BUCKET_KEY} must be 1 or 0."),
    "no account": ({EXPECTED_OWNER: "1234"}, f"{EXPECTED_OWNER} must be the 12 digits"),
    "account in other digits": (
        {EXPECTED_OWNER: "١" * 12},
        f"{EXPECTED_OWNER} must be the 12 digits",
    ),
    "no payer": ({PAYER: "owner"}, f'{PAYER} must be 1 or 0, or "requester".'),
}


@pytest.mark.parametrize("case", FAULTS)
def test_faults(case):
    """The line names the variable, what it needs, and the value that was received."""
    given, line = FAULTS[case]
    with pytest.raises(StorageError) as caught:
        RequestOptions.of(given)
    assert str(caught.value).startswith(line)
    assert "Received: KEEPFIT_S3_" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("command", [["ls", "s3://bucket/runs"], ["run", __file__]])
def test_a_command_refuses_a_fault(command, options):
    """It ends with exit code 78 and one line: `ls` before any request, `run` before the script."""
    options(**{KMS_KEY: KEY})
    ended = CliRunner().invoke(app, command)
    assert ended.exit_code == 78
    (line,) = ended.stderr.splitlines()
    start = '"reason": "' if command[0] == "run" else "error: refused: "
    assert f"{start}{KMS_KEY} needs {SSE}=aws:kms" in line


def test_variables_of_another_process(options):
    """Those that are set, and nothing else of the environment."""
    options(**{SSE: "aws:kms", KMS_KEY: "", EXPECTED_OWNER: ACCOUNT})
    assert set_variables(os.environ) == {SSE: "aws:kms", EXPECTED_OWNER: ACCOUNT}
