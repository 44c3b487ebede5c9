"""A server that has TensorFlow imported, and forks processes of `keepfit` from itself.

A forked process is like one that was started anew, with a pid, signals and an exit code of its own,
but it need not spend seconds on imports. A connection asks for one process: a line of JSON with its
`args`, `env` and `folder`, and its standard output and error as descriptors. The answers are its
pid, and when it has ended, its status as waitpid gives it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import warnings

with warnings.catch_warnings():
    import keras  # noqa: F401
    import tensorflow as tf  # noqa: F401

    import keepfit.callbacks.resumable
    import keepfit.job.runner  # noqa: F401
from keepfit.job import cli


def main() -> None:
    """Serve on the socket whose descriptor is the argument; return in a child only."""
    server = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that nobody has to reap the keepers
    while True:
        connection, _ = server.accept()
        if os.fork():
            connection.close()
            continue
        server.close()
        if keep(connection):
            return


def keep(connection: socket.socket) -> bool:
    """Fork the process and wait for it. Returns True in that process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request, streams, *_ = socket.recv_fds(connection, 1 << 20, 2)
    if not request:  # the server was only tried
        os._exit(0)
    asked = json.loads(request)
    child = os.fork()
    if not child:
        become(asked, streams)
        return True
    for stream in streams:
        os.close(stream)
    connection.sendall(f"{child}\n".encode())
    _, status = os.waitpid(child, 0)
    connection.sendall(f"{status}\n".encode())
    os._exit(0)


def become(asked: dict, streams: list[int]) -> None:
    """As the start of a program would have it."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, stream in enumerate((nothing, *streams)):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["env"])
    tempfile.tempdir = None  # some import has asked, and TMPDIR is another now
    sys.argv = ["keepfit", *asked["args"]]


if __name__ == "__main__":
    main()
    cli.main()
