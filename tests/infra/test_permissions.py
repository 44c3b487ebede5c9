"""The job's role compared with the S3 requests of a real job."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import keras
import pytest

import keepfit
from keepfit.callbacks.storage.s3 import multipart
from tests.iam import calls, policies, templates
from tests.s3.proxy import Proxy
from tests.training.trainings import Training, attempt, preempted

PREFIX = "runs"
LISTS = {"s3:ListBucket", "s3:ListBucketMultipartUploads"}


@pytest.fixture
def proxy(s3, monkeypatch):
    """A proxy that records every request of this process to its S3 server."""
    with Proxy() as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        yield proxy


def test_a_job_uses_all_actions_of_its_role_and_no_others(proxy, bucket, s3, tmp_path, monkeypatch):
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

    samples = templates.SAMPLES | {"Prefix": PREFIX, "Bucket": bucket.removeprefix("s3://")}
    samples["Bucket.Arn"] = f"arn:aws:s3:::{samples['Bucket']}"
    role = templates.role_statements("storage", "JobRole", samples)
    needed = [one for request in proxy.requests for one in calls.of_s3_request(request)]
    assert policies.refused([*role, *bucket_statements(samples)], needed) == []
    of_s3 = {a for s in role for a in policies.listed(s["Action"]) if a.startswith("s3:")}
    assert {request.action for request in needed} == of_s3
    elsewhere = [f"{samples['Bucket.Arn']}/another/x", f"{samples['Bucket.Arn']}-other/{PREFIX}/x"]
    for action, resource in product(of_s3 - LISTS, elsewhere):
        assert not policies.allows(role, policies.Request(action, resource, calls.TLS))
    unsafe = [replace(one, keys=one.keys | {"aws:SecureTransport": "false"}) for one in needed]
    assert len(policies.refused(bucket_statements(samples), unsafe)) == len(set(map(str, unsafe)))


def bucket_statements(samples):
    """Return the statements of the bucket's own policy."""
    (policy,) = [p for p in templates.policies("storage", samples) if p.resource == "BucketPolicy"]
    return policy.statements
