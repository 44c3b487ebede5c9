"""Notices that reach scripts with an exception handler, with threads, or after an error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from textwrap import dedent

import pytest

from tests.e2e.cases import (
    PLAIN,
    RARELY,
    SOON,
    STEPS,
    check_preempted,
    committed,
    finish,
    give_spot_notice,
    stopped,
    stopping,
    write,
)
from tests.e2e.process import run

SWALLOWED = {
    "bare_except": """
        try:
            history = fit(model)
        except:
            pass
    """,
    "except_base_exception": """
        try:
            history = fit(model)
        except BaseException as error:
            print(error)
    """,
    "finally_return": """
        def train():
            try:
                return fit(model)
            finally:
                return model.history
        history = train()
    """,
    "suppress": """
        with contextlib.suppress(SystemExit):
            history = fit(model)
    """,
    "sys_exit": """
        try:
            history = fit(model)
        except SystemExit:
            sys.exit(0)
    """,
    "another_error": """
        try:
            history = fit(model)
        except BaseException:
            raise ValueError("there is no history")
    """,
}
"""What a script may do with the exception that ends an attempt."""

SECOND_FIT = """
second = build()
try:
    fit(second)
except BaseException as error:
    print("second fit:", type(error).__name__, int(second.optimizer.iterations))
result(model, history)
"""


@pytest.mark.parametrize("way", SWALLOWED)
def test_a_notice_decides_the_exit_code(tmp_path, plain, way):
    """The script drops the exception: still 75, no further fit, and an exact next attempt."""
    script = f"model, history = build(), None\n{dedent(SWALLOWED[way])}{SECOND_FIT}"
    with stopped(write(tmp_path, script), *RARELY) as attempt:
        ended = attempt.end(signal.SIGTERM)
    check_preempted(ended)
    assert ended.one("preempted")["step"] == committed(tmp_path) == STEPS // 2
    if way not in ("sys_exit", "another_error"):
        assert "second fit: Preempted 0\n" in ended.out
    assert finish(tmp_path) == plain


IN_THREAD = """
model, histories = build(), []
thread = threading.Thread(target=lambda: histories.append(fit(model)))
thread.start()
thread.join()
if histories:
    result(model, *histories)
"""


@pytest.mark.parametrize("source", ["SIGTERM", "spot_notice"])
def test_fit_in_a_thread(tmp_path, plain, source):
    """A notice ends a fit that a thread of the script runs, saved."""
    watched = write(tmp_path, IN_THREAD) / "notice"
    with stopped(tmp_path, *RARELY, "--on-notice", "leave", "--watch", watched) as attempt:
        if source == "SIGTERM":
            ended = attempt.end(signal.SIGTERM)
        else:
            give_spot_notice(watched)
            attempt.process.until_event("notice")
            attempt.go_on()
            ended = attempt.process.wait(SOON)
    check_preempted(ended)
    assert committed(tmp_path) == STEPS // 2
    assert finish(tmp_path) == plain


IN_TWO_THREADS = """
models = {"one": build(), "two": build()}
threads = [threading.Thread(target=fit, args=(models[n],), kwargs={"run": n}) for n in models]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("steps", *(int(model.optimizer.iterations) for model in models.values()))
"""


def test_two_fits_in_two_threads(tmp_path):
    """SIGTERM ends both, each saved in its run; each run continues."""
    with stopping(write(tmp_path, IN_TWO_THREADS), *RARELY) as attempt:
        for _ in range(2):
            attempt.until_all("moment\n")
        ended = attempt.end(signal.SIGTERM, readers=2)
    check_preempted(ended)
    assert committed(tmp_path, "one") == committed(tmp_path, "two") == STEPS // 2
    again = run(tmp_path, *RARELY, "train.py")
    assert again.code == 0, again.err
    assert [line["step"] for line in again.named("resumed")] == [STEPS // 2] * 2
    assert f"steps {STEPS} {STEPS}\n" in again.out


LEFT_BEHIND = {
    "thread": "threading.Thread(target=train).start()",
    "pool": "pool = ThreadPoolExecutor(1); pool.submit(len, x); pool.submit(train)",
}
"""Ways to leave a training to a thread that Python waits for after the last line of a script."""


@pytest.mark.parametrize("way", LEFT_BEHIND)
def test_a_fit_that_outlives_the_main_thread(tmp_path, plain, way):
    """It is resumable like any other, and the attempt ends with it."""
    script = f"""
from concurrent.futures import ThreadPoolExecutor

def train():
    model = build()
    result(model, fit(model))

{LEFT_BEHIND[way]}
"""
    with stopped(write(tmp_path, script), *RARELY) as attempt:
        ended = attempt.end(signal.SIGTERM)
    check_preempted(ended)
    assert committed(tmp_path) == STEPS // 2
    assert finish(tmp_path) == plain


def test_a_fit_that_outlives_the_main_thread_of_plain_python(tmp_path):
    """Its run has the name of the script, which Python has forgotten by then, and it is saved."""
    script = """
        main = threading.main_thread()
        threading.Thread(target=lambda: (main.join(), fit(build()))).start()
    """
    write(tmp_path, script)
    env = {**os.environ, "KEEPFIT_SAVE_EVERY": "9 batches"}
    ended = subprocess.run(
        [sys.executable, "train.py"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert committed(tmp_path) == STEPS


BESIDE_A_PLAIN_FIT = """
def endless():
    other = build()
    other.fit(x, x.sum(1), epochs=10**9, verbose=0)

threading.Thread(target=endless).start()
fit(build())
"""


def test_a_plain_fit_in_another_thread(tmp_path):
    """It does not keep the process from ending, though its thread is no daemon."""
    folder = write(tmp_path, BESIDE_A_PLAIN_FIT)
    with stopped(folder, "--only-explicit", *RARELY) as attempt:
        ended = attempt.end(signal.SIGTERM)
    check_preempted(ended)
    assert committed(tmp_path) == STEPS // 2


AFTER_AN_ERROR = """
class Diverged(Stateless):
    def on_epoch_end(self, epoch, logs=None):
        raise ValueError("a diverged trial")

with contextlib.suppress(ValueError):
    fit(build(), Diverged())
build().fit(x, x.sum(1), batch_size=8, epochs=10**9, verbose=0, callbacks=[Stop()])
"""


def test_sigterm_after_an_error(tmp_path):
    """An earlier fit has raised: SIGTERM in a plain fit ends the process at once."""
    with stopped(write(tmp_path, AFTER_AN_ERROR), *RARELY) as attempt:
        ended = attempt.end(signal.SIGTERM)
    assert ended.code == 75, ended.err
    assert ended.one("preempted")


def test_sighup(tmp_path, plain):
    """The terminal is closed: saved, 75, and the next attempt continues."""
    with stopped(write(tmp_path, PLAIN), *RARELY) as attempt:
        ended = attempt.end(signal.SIGHUP)
    check_preempted(ended)
    assert ended.one("preempted")["source"] == "SIGHUP"
    assert committed(tmp_path) == STEPS // 2
    assert finish(tmp_path) == plain


def test_sighup_under_nohup(tmp_path, plain):
    """The training continues to its end."""
    with stopped(write(tmp_path, PLAIN), *RARELY, launcher=["nohup"]) as attempt:
        attempt.process.send(signal.SIGHUP)
        attempt.go_on()
        ended = attempt.process.wait()
    assert ended.code == 0, ended.err
    assert not ended.named("notice")
    assert json.loads((tmp_path / "result.json").read_text()) == plain


def test_a_refusal_decides_the_exit_code(tmp_path):
    """A script that swallows a refusal, and ends well without the training, has not succeeded."""
    script = dedent("""
        try:
            fit(build())
        except:
            pass
        print("the end")
    """)
    write(tmp_path, script)
    assert run(tmp_path, *RARELY, "train.py").code == 0
    refused = run(tmp_path, *RARELY, "train.py", "--other")
    assert refused.out.strip().endswith("the end")
    assert refused.code == 78
