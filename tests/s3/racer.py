"""Processes that race for one run in S3: `python -m tests.s3.racer COUNT URI < orders`.

All processes carry out an order at the same time, and each prints the result as a line of JSON:

    claim         claim the run
    commit        commit one checkpoint
    race COMMITS  claim the run, resume, and commit that many checkpoints

A process that finds that another attempt owns the run exits with 76, as a training does. After the
last order a final line lists the exit codes of all.
"""

import json
import os
import sys
from contextlib import suppress

from keepfit.callbacks.checkpoint.commit.attempt import Superseded
from keepfit.callbacks.errors import EXIT_FENCED
from tests.checkpoint.samples import resume, take_over
from tests.s3.samples import assert_is_small, server, small, store_at


class Racer:
    """One of the racing processes."""

    def __init__(self, uri):
        self._store = store_at(server(), uri)
        self._attempt = None
        self._commits = []

    def run(self, orders):
        """Carry out the orders; return the exit code."""
        for order in orders:
            fenced = None
            try:
                self._do(*order.split())
            except Superseded as error:
                fenced = str(error)
            report(attempt=self._attempt.number, commits=self._commits, fenced=fenced)
            if fenced:
                return EXIT_FENCED
        return 0

    def _do(self, order, count="0"):
        if order in ("claim", "race"):
            self._attempt = take_over(self._store, keep=2)
        if order == "race" and (found := resume(self._store, self._attempt)):
            assert_is_small(found, found.manifest.position.step)
        for _ in range(1 if order == "commit" else int(count)):
            step = 1000 * self._attempt.number + len(self._commits)
            self._attempt.commit(small(step))
            self._commits.append(step)


def report(**result):
    """Print one line with a single write, so that lines of other processes do not mix with it."""
    os.write(1, f"{json.dumps(result)}\n".encode())


def main(count, uri):
    children, pipes = [], []
    for _ in range(int(count)):
        receive, send = os.pipe()
        if not (child := os.fork()):
            for pipe in (*pipes, send):
                os.close(pipe)
            code = 1
            try:
                with open(receive) as orders:
                    code = Racer(uri).run(orders)
            finally:
                os._exit(code)
        os.close(receive)
        children.append(child)
        pipes.append(send)
    for order in sys.stdin:
        for pipe in pipes:
            with suppress(BrokenPipeError):  # a process that was fenced has exited
                os.write(pipe, order.encode())
    for pipe in pipes:
        os.close(pipe)
    report(codes=[os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])


if __name__ == "__main__":
    main(*sys.argv[1:])
