"""Processes that work on a run in S3 and may be killed: `python -m tests.s3.victim < lines`.

A line is an act, the endpoint and the address of the store; for each a new process is forked, and
two lines tell its number and, when it is gone, its exit status. To fork costs a hundredth of what
it takes to start Python; no thread runs and no connection is open by then.
"""

import os
import sys

import numpy as np

from keepfit.callbacks.storage.s3 import multipart
from tests.checkpoint.samples import resume, take_over, tensor
from tests.s3.samples import small, store_at

LARGE = 11 << 20
"""Bytes of a tensor that goes in three parts, as S3 takes them: 5 MiB each but for the last."""


def large_array(step):
    return np.full(LARGE // 8, step, np.float64)


def large(step):
    """A snapshot with a tensor that goes in parts."""
    snapshot = small(step)
    snapshot.tensors.append(tensor("model/table", large_array(step), "data"))
    return snapshot


def save(store):
    """Go on from the newest checkpoint and save another one: the one before it is pruned."""
    attempt = take_over(store, keep=1)
    assert resume(store, attempt).manifest.position.step == 2
    attempt.commit(large(3))


def tidy(store):
    """What an attempt does after its first commit, where a killed one has left much behind."""
    attempt = take_over(store, keep=1)
    resume(store, attempt)
    attempt.commit(small(3))
    attempt.sweep()


def main():
    multipart.MAX_SINGLE_PUT = 1 << 20
    multipart.PART = 5 << 20
    for line in sys.stdin:
        act, endpoint, uri = line.split()
        if not (child := os.fork()):
            globals()[act](store_at(endpoint, uri))
            os._exit(0)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
