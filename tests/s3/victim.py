"""Processes that work on a run in S3 and may be killed: `python -m tests.s3.victim < lines`.

A line contains an action, the endpoint and the address of the store. For each line a process is
forked; its process id and, after its end, its exit status are printed. Forking takes a hundredth of
the time to start Python, and is safe: no thread runs and no connection is open at that point.
"""

import os
import sys

import numpy as np

from keepfit.callbacks.storage.s3 import multipart
from tests.checkpoint.samples import resume, take_over, tensor
from tests.s3.samples import small, store_at

LARGE = 11 << 20
"""Bytes of a tensor that is uploaded in three parts; S3 demands 5 MiB of all but the last."""


def large_array(step):
    return np.full(LARGE // 8, step, np.float64)


def large(step):
    """Return a snapshot with a tensor that is uploaded in parts."""
    snapshot = small(step)
    snapshot.tensors.append(tensor("model/table", large_array(step), "data"))
    return snapshot


def save(store):
    """Resume from the newest checkpoint and commit another one, which prunes the first."""
    attempt = take_over(store, keep=1)
    assert resume(store, attempt).manifest.position.step == 2
    attempt.commit(large(3))


def sweep(store):
    """Commit and sweep, as an attempt does when killed ones have left objects behind."""
    attempt = take_over(store, keep=1)
    resume(store, attempt)
    attempt.commit(small(3))
    attempt.sweep()


def main():
    multipart.MAX_SINGLE_PUT = 1 << 20
    multipart.PART = 5 << 20
    for line in sys.stdin:
        action, endpoint, uri = line.split()
        if not (child := os.fork()):
            globals()[action](store_at(endpoint, uri))
            os._exit(0)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
