"""Attempts of drills, forked from a process that has imported TensorFlow."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from contextlib import suppress

from keepfit.job.drill.attempts import Attempt
from tests.e2e.process import fork_server


def start(command, folder, environment, out, err, limit):
    """Run an attempt like run_process, but seconds faster."""
    began = time.monotonic()
    args = ["--attempt-of-drill", command[-1]]
    request = {"args": args, "env": dict(environment), "folder": str(folder)}
    with (
        socket.socket(socket.AF_UNIX) as connection,
        out.open("wb") as stdout,
        err.open("wb") as stderr,
    ):
        connection.connect(fork_server())
        streams = [stdout.fileno(), stderr.fileno()]
        socket.send_fds(connection, [json.dumps(request).encode()], streams)
        connection.settimeout(limit)
        answers = connection.makefile("r")
        pid = int(answers.readline())
        try:
            code = os.waitstatus_to_exitcode(int(answers.readline()))
        except TimeoutError:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            return Attempt(-signal.SIGKILL, time.monotonic() - began, hung=True)
    return Attempt(code, time.monotonic() - began)
