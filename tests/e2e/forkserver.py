"""A server that has imported TensorFlow, and forks processes of `keepfit` from itself.

With `--attempt-of-drill` as the first of its `args`, it is an attempt of a drill instead.
A forked process is like a newly started one, with a pid, signals and an exit code of its own, but
it need not spend seconds on imports: the server imports once, at its first connection. A connection
requests one process: a line of JSON with its `args`, `env` and `folder`, and its standard output
and error as descriptors. The answers are its pid and, when it has ended, its status as waitpid
returns it.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable

MODULES = (
    "keras",
    "tensorflow",
    "keepfit.callbacks.keras.resumable",
    "keepfit.job.runner",
    "keepfit.job.cli",
    "keepfit.job.drill.child.entry",
    "boto3",
    "botocore.httpsession",
    "keepfit.callbacks.storage.s3.store",
)


def main() -> None:
    """Serve on the socket whose descriptor is the argument; return in a child only."""
    server = socket.socket(fileno=int(sys.argv[1]))
    select.select([server], [], [])  # tests that start no process do not pay for the imports
    with warnings.catch_warnings():
        for name in MODULES:
            importlib.import_module(name)
    compile_templates()
    gc.freeze()  # collections in the processes need not look at the imported modules
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that the watching processes need no reaping
    while True:
        connection, _ = server.accept()
        if os.fork():
            connection.close()
            continue
        server.close()
        if serve(connection):
            return


def compile_templates() -> None:
    """Compile the templates of a report's page, on which each finished run would spend 0.2 s."""
    templates = importlib.import_module("keepfit.job.reports.page.render")._environment()
    for name in templates.list_templates():
        templates.get_template(name)


def serve(connection: socket.socket) -> bool:
    """Fork the requested process and wait for it. Return True in that process only."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request, streams, *_ = socket.recv_fds(connection, 1 << 20, 2)
    if not request:  # a connection without a request
        os._exit(0)
    parsed = json.loads(request)
    child = os.fork()
    if not child:
        set_up(parsed, streams)
        return True
    for stream in streams:
        os.close(stream)
    connection.sendall(f"{child}\n".encode())
    _, status = os.waitpid(child, 0)
    connection.sendall(f"{status}\n".encode())
    os._exit(0)


def set_up(request: dict, streams: list[int]) -> None:
    """Set streams, folder, environment and arguments, as the start of a program would."""
    devnull = os.open(os.devnull, os.O_RDONLY)
    for number, stream in enumerate((devnull, *streams)):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["env"])
    tempfile.tempdir = None  # an import has cached it, and TMPDIR has changed
    sys.argv = ["keepfit", *request["args"]]


def run(program: Callable[[], None]) -> None:
    """Run a program and end this process as Python would, but without destroying the objects.

    That copies the memory which is shared with the server: 0.3 s of CPU for each process. It is the
    way in which multiprocessing ends a forked process.
    """
    code: object = 0
    try:
        program()
    except SystemExit as error:
        code = error.code or 0
        if not isinstance(code, int):
            raise
    threading._shutdown()
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        sys.exit(code)  # Python reports the broken stream
    os._exit(code)


if __name__ == "__main__":
    main()
    if sys.argv[1] == "--attempt-of-drill":
        del sys.argv[1]
        module = importlib.import_module("keepfit.job.drill.child.entry")
    else:
        module = importlib.import_module("keepfit.job.cli")
    run(module.main)
