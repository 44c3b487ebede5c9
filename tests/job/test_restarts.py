"""`--restarts`: attempts that were killed or preempted are started again; real processes end."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import pytest

from keepfit.job.process.restarts import restart_reason
from tests.e2e.process import ROOT, SMALL, Ended, run, started
from tests.job.test_pid1 import SUBREAPER, first_child, namespace  # noqa: F401 # a fixture

SUPERVISED = """
import os, signal, sys
from keepfit.callbacks.backoff import Backoff
from keepfit.job.log_output import configure
from keepfit.job.process.restarts import supervise_attempts

configure("run")  # JSON

class Immediate(Backoff):
    def seconds(self, failed):
        print("DELAY", failed, flush=True)
        return float(sys.argv[2])

def stop(number, frame):
    os.write(1, f"SIGNAL {signal.Signals(number).name}\\n".encode())  # print is not reentrant
    os._exit(75)

attempt = supervise_attempts(int(sys.argv[1]), 75, Immediate(1.0, 1.0))
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) != signal.SIG_IGN:
        signal.signal(number, stop)
print("ATTEMPT", attempt.number, attempt.script_has_ended, os.getpid(), flush=True)
if end := attempt.previous_end:
    moments = end.started.isoformat(), end.ended.isoformat()
    print("PREVIOUS", end.reason, end.detail.replace(" ", "-"), *moments, flush=True)
how = sys.argv[2 + attempt.number]
if how == "end":
    attempt.report_end()
    how = "SIGKILL"
if how == "wait":
    while True:
        signal.pause()
if how.startswith("SIG"):
    os.kill(os.getpid(), signal.Signals[how])
if how.isdigit() and signal.SIGRTMIN < int(how) < signal.SIGRTMAX:
    os.kill(os.getpid(), int(how))
sys.exit(int(how))
"""


@contextmanager
def supervised(limit: int, *ways: str, delay: float = 0, **options) -> Iterator[subprocess.Popen]:
    """Start attempts that end in these ways. A background shell would have SIGINT ignored."""
    options.setdefault("preexec_fn", lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISED, str(limit), str(delay), *ways],
        env={"PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(limit: int, *ways: str) -> Ended:
    with supervised(limit, *ways) as process:
        out, err = process.communicate(timeout=60)
        events = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
        return Ended(process.returncode, out, err, events)


def until(process: subprocess.Popen, start: str, stream: str = "stdout") -> str:
    """Wait for and return the first line of output that begins so."""
    return next(line for line in getattr(process, stream) if line.startswith(start))


def test_the_rules_of_aws_batch():
    """An exit code is restarted here if the job definition retries it, and so is every signal."""
    template = (ROOT / "infra/templates/compute.yaml").read_text()
    retried = {int(code) for code in re.findall(r'OnExitCode: "(\d+)", Action: RETRY', template)}
    assert retried
    assert {code for code in range(256) if restart_reason(code, 75)} == retried
    assert {code for code in range(256) if restart_reason(code, 85)} == {85}
    for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS):
        assert number.name in (restart_reason(-number, 75) or "")


def test_killed_and_preempted():
    """Each attempt has a number; one line says why it begins; the last one's code is returned."""
    found = ended(5, "SIGKILL", "SIGSEGV", "75", "0")
    assert found.code == 0
    assert re.findall(r"ATTEMPT (\d)", found.out) == ["1", "2", "3", "4"]
    assert re.findall(r"DELAY (\d)", found.out) == ["1", "2", "3"], "the delays grow"
    lines = found.named("restarted")
    assert [line["attempt"] for line in lines] == [2, 3, 4]
    for line, cause in zip(lines, ["SIGKILL", "SIGSEGV", "75"], strict=True):
        assert cause in line["reason"]
        assert line["of"] == 6


def test_end_of_the_attempt_before():
    """Each attempt learns when and how the process before it has ended; the first one of none."""
    before = datetime.now(UTC)
    found = ended(5, "SIGKILL", str(signal.SIGRTMIN + 2), "75", "0")
    ends = [line.split()[1:] for line in found.out.splitlines() if line.startswith("PREVIOUS")]
    assert [end[:2] for end in ends] == [
        ["killed", "killed-by-SIGKILL"],
        ["killed", f"killed-by-signal-{signal.SIGRTMIN + 2}"],
        ["None", "exit-code-75"],
    ]
    moments = [datetime.fromisoformat(moment) for end in ends for moment in end[2:]]
    in_order = [before, *moments, datetime.now(UTC)]
    assert in_order == sorted(in_order)


@pytest.mark.parametrize(("limit", "last", "code"), [(2, "SIGKILL", 137), (1, "75", 75)])
def test_limit(limit, last, code):
    """No more than this number of attempts begin again; the line says how to go on."""
    found = ended(limit, *["SIGKILL"] * limit, last, "0")
    assert found.code == code
    assert found.out.count("ATTEMPT") == limit + 1
    assert found.one("restarts_ended")["attempts"] == limit + 1
    assert "same command" in found.one("restarts_ended")["fix"]


def test_error_of_the_script():
    """An exception is no reason: it would come again."""
    found = ended(3, "SIGKILL", "1", "0")
    assert found.code == 1
    assert found.out.count("ATTEMPT") == 2


def test_script_that_has_ended():
    """A later attempt learns that the script had come to its end before its process was killed."""
    found = ended(3, "SIGKILL", "end", "0")
    assert re.findall(r"ATTEMPT \d (\w+)", found.out) == ["False", "False", "True"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stopped(number):
    """The attempt gets the signal, and none begins after it though its code is 75."""
    with supervised(3, "wait", "0") as process:
        until(process, "ATTEMPT")
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert f"SIGNAL {number.name}" in out
    assert "ATTEMPT" not in out
    assert "restart" not in err


def test_stopped_between_two_attempts():
    """The wait ends at once; the run is to be continued."""
    with supervised(3, "SIGKILL", "0", delay=600) as process:
        until(process, '{"attempt": 2', "stderr")
        process.send_signal(signal.SIGUSR1)  # nothing to save
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 75
    assert out.count("ATTEMPT") == 1


def test_under_nohup():
    """A hangup that is ignored stops nothing."""
    ignore = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    with supervised(3, "wait", "0", **ignore) as process:
        attempt = int(until(process, "ATTEMPT").split()[-1])
        process.send_signal(signal.SIGHUP)
        os.kill(attempt, signal.SIGKILL)
        until(process, "ATTEMPT 2")
        assert process.wait(60) == 0


def test_killed_supervisor():
    """The attempt gets a SIGTERM: who stops what was started does not leave it running."""
    with supervised(3, "wait", "0") as process:
        attempt = os.pidfd_open(int(until(process, "ATTEMPT").split()[-1]))
        process.kill()
        try:
            assert select.select([attempt], [], [], 60)[0], "the attempt runs on"
        finally:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(attempt, signal.SIGKILL)
            os.close(attempt)
        assert process.stdout.read() == "SIGNAL SIGTERM\n"


KILLED_ONCE = """
import os, signal, subprocess, sys
from pathlib import Path
first = not Path("killed").exists()
Path("killed").touch()
if first:
    os.kill(os.getpid(), signal.SIGKILL)
subprocess.run(["sh", "-c", "(sleep 0.01) &"])
print("FRESH", os.environ.get("KEEPFIT_FRESH"))
"""


def test_process_1(tmp_path, namespace):  # noqa: F811
    """The supervisor has the duties of process 1 too: no other process stands between."""
    (tmp_path / "train.py").write_text(KILLED_ONCE)
    launcher = namespace or SUBREAPER
    arguments = ["--restarts", "1", "--fresh", "train.py"]
    found = run(tmp_path, *arguments, launcher=launcher, PYTHONPATH=str(ROOT))
    assert found.code == 0, found.err
    assert "SIGKILL" in found.one("restarted")["reason"]
    assert "FRESH True" in found.out, "the first attempt has not begun the run"


FRESH_ONCE = KILLED_ONCE + "\nsys.argv[0] = 'small.py'\nexec(open('small.py').read())\n"


def test_a_training(tmp_path):
    """The second attempt begins the run anew, as the first one could not; the third one resumes."""
    arguments = ["--deterministic", "--save-every", "3 batches", "--run", "small"]
    training = ["numpy", "--epochs", "2"]
    (tmp_path / "small.py").write_text(SMALL.read_text())
    (tmp_path / "train.py").write_text(FRESH_ONCE)
    (tmp_path / "killed").touch()
    assert run(tmp_path, *arguments, "train.py", *training).code == 0
    expected = json.loads((tmp_path / "result.json").read_text())
    (tmp_path / "killed").unlink()
    options = [*arguments, "--fresh", "--restarts", "2", "train.py", *training]
    with started(tmp_path, *options) as process:
        process.until_event("started_afresh")
        process.until_event("checkpoint_saved")
        os.kill(first_child(process._process.pid), signal.SIGKILL)
        found = process.wait()
    assert found.code == 0, found.err
    assert len(found.named("restarted")) == 2
    found.one("started_afresh")
    found.one("fresh_run_continued")
    found.one("resumed")
    assert json.loads((tmp_path / "result.json").read_text()) == expected
