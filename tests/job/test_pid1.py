"""keepfit as process 1 of a container, and as a child of a shell that is process 1."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from keepfit.job.pid1 import find_shell_parent
from tests.e2e.process import ROOT, run, started

NAMESPACE = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"]
SUBREAPER = [sys.executable, str(ROOT / "tests/job/subreaper.py")]
USER_NAMESPACE = ["unshare", "--user", "--map-root-user", *NAMESPACE[1:]]


@pytest.fixture(scope="module")
def namespace():
    """The command that makes its child process 1; None if this machine does not permit that."""
    for command in (NAMESPACE, USER_NAMESPACE):
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
            return command
    return None


JOB = """
import json, multiprocessing, os, signal, subprocess, sys, time

def dispositions(_):
    kinds = {signal.SIG_DFL: "default", signal.SIG_IGN: "ignored"}
    return {n: kinds.get(signal.getsignal(signal.Signals[n]), "ours")
            for n in ("SIGTERM", "SIGINT", "SIGUSR1")}

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as pool:
        worker = pool.map(dispositions, [0])[0]
    orphan = int(subprocess.check_output(["sh", "-c", "(true) >/dev/null 2>&1 & echo $!"]))
    limit = time.monotonic() + 30
    while os.path.exists(f"/proc/{orphan}") and time.monotonic() < limit:
        time.sleep(0.01)
    code = subprocess.run(["sh", "-c", "exit 7"]).returncode
    print(json.dumps({"worker": worker, "orphan": os.path.exists(f"/proc/{orphan}"), "code": code,
                      "first": os.getppid() == 1}), flush=True)
    signal.pause()
"""


def first_child(process: int) -> int:
    return int(Path(f"/proc/{process}/task/{process}/children").read_text().split()[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("kind", ["process 1", "subreaper"])
def test_process_1(tmp_path, namespace, kind, number):
    """Orphans are reaped, the script can wait for its own children, and signals reach the job.

    Workers that are forked from it end at SIGTERM and ignore the other signals.
    """
    (tmp_path / "train.py").write_text(JOB)
    namespace = namespace if kind == "process 1" else None
    launcher = namespace or SUBREAPER
    with started(tmp_path, "train.py", launcher=launcher, PYTHONPATH=str(ROOT)) as attempt:
        reported = attempt.until(lambda line: line.startswith("{") and "worker" in line)
        assert json.loads(reported) == {
            "worker": {"SIGTERM": "default", "SIGINT": "ignored", "SIGUSR1": "ignored"},
            "orphan": False,
            "code": 7,
            "first": namespace is not None,
        }
        outer = attempt._process.pid
        os.kill(first_child(outer) if namespace else outer, number)
        ended = attempt.wait()
    assert ended.code == 75, ended.err
    assert ended.one("preempted")["source"] == number.name
    assert not ended.named("behind_shell")


def test_killed_job(tmp_path, namespace):
    """A job that was killed by signal 9 has the exit code 128 + 9, as in shells."""
    (tmp_path / "train.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    ended = run(tmp_path, "train.py", launcher=namespace or SUBREAPER, PYTHONPATH=str(ROOT))
    assert ended.code == 128 + 9


def test_behind_a_shell(tmp_path, namespace):
    """One warning with the fix if process 1 is a shell."""
    (tmp_path / "train.py").write_text("pass\n")
    if namespace is None:  # only the next test covers this case on this machine
        namespace = []
    ended = run(tmp_path, "train.py", launcher=[*namespace, "sh", "-c", '"$0" "$@"; exit $?'])
    assert ended.code == 0
    if namespace:
        warning = ended.one("behind_shell")
        assert warning["level"] == "warning"
        assert warning["shell"].startswith("sh -c")
        assert "exec form" in warning["fix"]


PLAIN, TRAP = "0000000000010002", "0000000000014002"

CASES = {
    "a shell": ({1: ("sh\0-c\0keepfit run x; true", 0, PLAIN)}, 1, "sh -c keepfit run x; true"),
    "a script of a shell": ({1: ("/bin/bash\0/entry.sh", 0, PLAIN)}, 1, "/bin/bash /entry.sh"),
    "a login shell": ({1: ("-bash", 0, PLAIN)}, 1, "-bash"),
    "a shell with a trap": ({1: ("/bin/sh\0/entry.sh", 0, TRAP)}, 1, None),
    "an init": ({1: ("/sbin/docker-init\0--\0keepfit", 0, PLAIN)}, 1, None),
    "an init and a shell": (
        {1: ("/sbin/docker-init\0--\0sh", 0, PLAIN), 7: ("sh\0-c\0x; y", 1, PLAIN)},
        7,
        "sh -c x; y",
    ),
    "a login on a machine": ({1: ("/sbin/init", 0, TRAP), 7: ("bash", 5, PLAIN)}, 7, None),
    "no /proc": ({}, 1, None),
}


@pytest.mark.parametrize("case", CASES)
def test_find_shell_parent(tmp_path, case):
    """The shell is recognised by /proc of the ancestors of this process."""
    processes, parent, expected = CASES[case]
    for number, (command, above, caught) in processes.items():
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "cmdline").write_text(command + "\0")
        status = f"Name:\tx\nPPid:\t{above}\nSigCgt:\t{caught}\n"
        (tmp_path / str(number) / "status").write_text(status)
    assert find_shell_parent(tmp_path, parent) == expected
