"""Processes that race for one run in S3: `python -m tests.s3.racer COUNT URI < lines`.

Each line lets all of them do the next thing at once:

    claim         take the run over
    commit        save one checkpoint
    race COMMITS  take the run over and save that often, as fast as it goes

Whoever finds that another attempt owns the run ends with 76, as a training does. At the end each
has told, in a line of JSON, what it did.
"""

import json
import os
import sys

from callbacks.checkpoint.attempt import Superseded
from callbacks.errors import EXIT_FENCED
from tests.checkpoint.samples import resume, take_over
from tests.s3.samples import assert_is_small, server, small, store_at


def race(number, uri, orders):
    """Do what the orders say; returns the exit code."""
    store = store_at(server(), uri)
    told = {"racer": number, "attempt": None, "commits": [], "fenced": False}
    attempt = None
    try:
        for order, *count in map(str.split, orders):
            if order in ("claim", "race"):
                attempt = take_over(store, keep=2)
                told["attempt"] = attempt.number
                if found := resume(store, attempt):
                    assert_is_small(found, found.manifest.position.step)
            for _ in range(int(count[0]) if count else order == "commit"):
                step = 100 * attempt.number + len(told["commits"])
                attempt.commit(small(step))
                told["commits"].append(step)
            told["head"] = attempt.head.attempt
            os.write(1, b"\n")
    except Superseded as error:
        told["fenced"] = str(error)
        return EXIT_FENCED
    finally:
        os.write(1, f"{json.dumps(told)}\n".encode())
    return 0


def main(count, uri):
    """Fork them before any thread runs, and give each order to all of them."""
    children, pipes = {}, []
    for number in range(int(count)):
        receive, send = os.pipe()
        if not (child := os.fork()):
            for pipe in (*pipes, send):
                os.close(pipe)
            with open(receive) as orders:
                os._exit(race(number, uri, orders))
        os.close(receive)
        children[child] = number
        pipes.append(send)
    for line in sys.stdin:
        for pipe in pipes:
            try:
                os.write(pipe, line.encode())
            except BrokenPipeError:
                pass  # fenced, and gone
    for pipe in pipes:
        os.close(pipe)
    codes = {number: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child, number in children.items()}
    os.write(1, f"{json.dumps([codes[n] for n in sorted(codes)])}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
