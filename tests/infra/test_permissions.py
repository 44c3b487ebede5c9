"""The job's role compared with the S3 requests of a real job."""

from __future__ import annotations

from fnmatch import fnmatch
from urllib.parse import parse_qs, unquote

import keras
import pytest
from cfnlint.decode.cfn_yaml import load

import keepfit
from keepfit.callbacks.storage.s3 import multipart
from tests.e2e.process import ROOT
from tests.s3.proxy import Proxy
from tests.training.trainings import Training, attempt, preempted

PREFIX = "runs"


@pytest.fixture
def statements():
    """The statements of the job's role: actions on objects, and actions on the bucket."""
    resources = load(str(ROOT / "infra/templates/storage.yaml"))["Resources"]
    (policy,) = resources["JobRole"]["Properties"]["Policies"]
    return policy["PolicyDocument"]["Statement"]


@pytest.fixture
def proxy(s3, monkeypatch):
    """A proxy that records every request of this process to its S3 server."""
    with Proxy() as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        yield proxy


def needed_actions(request) -> set[tuple[str, str]]:
    """Return the actions that the request needs, each with its object or, for lists, its prefix.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
    """
    _, bucket, *key = request.path.split("/", 2)
    query = parse_qs(request.query, keep_blank_values=True)
    target = unquote(key[0]) if key and key[0] else ""
    headers = {name.lower(): value for name, value in request.headers}
    if not target:
        assert request.method == "GET", request
        action = "s3:ListBucketMultipartUploads" if "uploads" in query else "s3:ListBucket"
        return {(action, query["prefix"][0])}
    if source := headers.get("x-amz-copy-source"):
        assert source.startswith(f"{bucket}/")
        return {("s3:GetObject", unquote(source).split("/", 1)[1]), ("s3:PutObject", target)}
    if request.method == "DELETE":
        return {("s3:AbortMultipartUpload" if "uploadId" in query else "s3:DeleteObject", target)}
    reads = request.method in ("GET", "HEAD")
    return {("s3:GetObject" if reads else "s3:PutObject", target)}


def test_a_job_uses_all_actions_of_its_role_and_no_others(
    statements, proxy, bucket, s3, tmp_path, monkeypatch
):
    """One run saves, resumes, uploads files in parts, prunes, and starts over with --fresh."""
    store = f"{bucket}/{PREFIX}"
    monkeypatch.setattr(multipart, "MAX_SINGLE_PUT", 300)
    monkeypatch.setenv("KEEPFIT_STORE", store)
    training = Training(
        held=lambda: [
            keras.callbacks.CSVLogger(tmp_path / "log.csv"),
            keepfit.ModelCheckpoint(f"{store}/models/{{epoch}}.weights.h5", save_weights_only=True),
            keepfit.TensorBoard(f"{store}/board"),
        ]
    )
    proxy.arm()
    preempted(training, store, "on_epoch_end", 2, save_every="3 batches")
    lost = {"Bucket": bucket.removeprefix("s3://"), "Key": f"{PREFIX}/run/shards/0001-lost"}
    s3.create_multipart_upload(**lost)
    s3.put_object(**lost, Body=b"")
    attempt(training, store, save_every="3 batches")
    monkeypatch.setenv("KEEPFIT_FRESH", "1")
    attempt(training, store, epochs=1)

    used = set().union(*map(needed_actions, proxy.requests))
    objects, listings = statements
    assert {action for action, _ in used} == {*objects["Action"], *listings["Action"]}
    for action, target in used:
        if action in objects["Action"]:
            assert target.startswith(f"{PREFIX}/"), f"{action} outside of the prefix: {target}"
        else:
            patterns = (PREFIX, f"{PREFIX}/*")
            assert any(fnmatch(target, pattern) for pattern in patterns), f"{action}: {target!r}"
