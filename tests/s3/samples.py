"""Small snapshots, stores behind a proxy, and assertions that hold for a run in S3 at any time."""

import os
from contextlib import contextmanager

import numpy as np
import pytest

from keepfit.callbacks.checkpoint.format.keys import head_key
from keepfit.callbacks.checkpoint.format.position import Position
from keepfit.callbacks.checkpoint.read.reader import read_checkpoint
from keepfit.callbacks.checkpoint.snapshot import Snapshot
from keepfit.callbacks.storage.s3.address import Address
from keepfit.callbacks.storage.s3.client import make_client
from keepfit.callbacks.storage.s3.retries import RetryPolicy
from keepfit.callbacks.storage.s3.store import S3Store
from tests.checkpoint.samples import RUN, head_of, resume, take_over, tensor

QUICK = RetryPolicy(seconds=20, connect=5, read=5, longest_wait=0.01)
"""Retries almost without a pause."""


def client_at(endpoint, retries=QUICK):
    """Return a client as the product makes it, but with this endpoint."""
    with environment(AWS_ENDPOINT_URL_S3=endpoint):
        return make_client(retries)


def store_at(endpoint, uri, retries=QUICK):
    """Return a store as the product opens it, but with this endpoint."""
    return S3Store(Address.parse(uri), lambda: client_at(endpoint, retries), retries)


def store_of(client, uri, retries=QUICK):
    """Return a store that shares a client: creating a client takes as long as 30 requests."""
    return S3Store(Address.parse(uri), lambda: client, retries)


@contextmanager
def environment(**changes):
    """Set these environment variables within the block; None removes one."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in changes.items():
            if value is None:
                patch.delenv(name, raising=False)
            else:
                patch.setenv(name, value)
        yield


def small_arrays(step):
    """Return arrays for two shards of a few hundred bytes each."""
    random = np.random.default_rng(step)
    return {
        "model/kernel": random.normal(size=(3, 4)).astype(np.float32),
        "optimizer/count": np.asarray(step, np.int64),
    }


def small(step, **position):
    """Return a snapshot of `small_arrays`."""
    tensors = [
        tensor(name, array, name.split("/")[0]) for name, array in small_arrays(step).items()
    ]
    return Snapshot(Position(step=step, **position), tensors, {"best": step / 3})


def assert_is_small(checkpoint, step):
    """Assert that the checkpoint is bit for bit what was captured at `step`."""
    assert checkpoint is not None, "nothing to resume from"
    assert checkpoint.manifest.position.step == step
    assert checkpoint.state == {"best": step / 3}
    arrays = small_arrays(step)
    assert checkpoint.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        found = checkpoint.arrays[name]
        assert (found.dtype, found.shape) == (array.dtype, array.shape), name
        assert found.tobytes() == array.tobytes(), name


def assert_resumes(store, step, check=assert_is_small):
    """Assert that the next attempt resumes from `step` and commits, and leaves no other objects.

    Args:
        step: the step of the newest checkpoint; None if there is none.
        check: asserts that a checkpoint is what was captured at a step.
    """
    named = head_of(store).checkpoints if list(store.list(head_key(RUN))) else ()
    attempt = take_over(store, keep=1)
    found = resume(store, attempt)
    if step is None:
        assert found is None
    else:
        assert found.key == named[0], "the newest committed checkpoint"
        check(found, step)
    for key in named[1:]:
        older = read_checkpoint(store, RUN, key)
        check(older, older.manifest.position.step)
    manifest = attempt.commit(small(99)).manifest
    attempt.sweep()
    head = head_of(store)
    assert len(head.manifests()) == 1
    expected = {head_key(RUN), *head.manifests(), *manifest.objects()}
    assert {entry.key for entry in store.list(f"{RUN}/")} == expected


def unfinished(s3, store):
    """Return the keys of the unfinished multipart uploads under the store's prefix."""
    bucket, _, prefix = store.uri.removeprefix("s3://").partition("/")
    found = s3.list_multipart_uploads(Bucket=bucket, Prefix=f"{prefix}/")
    return [upload["Key"] for upload in found.get("Uploads", ())]


def server():
    """Return the endpoint of the S3 server itself."""
    return os.environ["AWS_ENDPOINT_URL_S3"]
