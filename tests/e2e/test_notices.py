"""Reactions to a notice, in real processes."""

from __future__ import annotations

import signal
import time
from contextlib import contextmanager

from keepfit.callbacks.journal.read import read_journals
from keepfit.callbacks.journal.terms import PriceClass
from keepfit.callbacks.storage import open_store
from tests.e2e.process import SMALL, started
from tests.imds import Machine, serving

ENDLESS = ("--epochs", "1000000", "--patience", "1000000")
RARE_SAVES = ("--deterministic", "--save-every", "1h")


@contextmanager
def on_ec2():
    """Yield a machine with a metadata service, and the variables of a process on it."""
    machine = Machine()
    with serving(machine) as url:
        yield (
            machine,
            {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": url},
        )


def test_aws_batch_does_not_retry_on_a_dying_machine(tmp_path):
    """It saves at once, but the process stays; when stopped, it exits with the configured code.

    The journal names the machine and its price.
    """
    flags = (*RARE_SAVES, "--on-notice", "leave", "--preempted-exit-code", "143")
    with on_ec2() as (machine, env):
        machine.documents |= {"instance-type": "c6i.xlarge", "instance-life-cycle": "on-demand"}
        env["KEEPFIT_ON_DEMAND_PRICE"] = "0.2"
        job = {**env, "AWS_BATCH_JOB_ID": "a", "AWS_BATCH_JOB_ATTEMPT": "1"}
        with started(tmp_path, *flags, SMALL, "infinite", *ENDLESS, **job) as attempt:
            attempt.until_event("machine_watched")
            machine.interrupt(110)
            saved = attempt.until_event("checkpoint_saved")
            assert attempt.until_event("preempted")["step"] == saved["step"]
            assert attempt.until_event("holding")["seconds"] > 60
            attempt.send(signal.SIGTERM)
            ended = attempt.wait()
    assert ended.code == 143, ended.err
    (journal,) = read_journals(open_store(f"file://{tmp_path}/runs"), "small").journals
    found = journal.machine
    assert (found.instance_type, found.price_class) == ("c6i.xlarge", PriceClass.ON_DEMAND)
    assert (found.job, found.job_attempt, found.hourly_price) == ("a", 1, 0.2)


def test_a_batch_that_outlasts_the_grace_period(tmp_path):
    """The log has the lost batches while the batch still runs: those since the last checkpoint."""
    flags = ("--deterministic", "--save-every", "1 epoch", "--grace", "2s")
    awaited = {"stuck\n", '"event": "checkpoint_saved"'}

    def all_awaited(line):
        awaited.difference_update([part for part in awaited if part in line])
        return not awaited

    with started(tmp_path, *flags, SMALL, "tfdata", "--stuck-in", "1:8") as attempt:
        attempt.until(all_awaited)
        attempt.send(signal.SIGTERM)
        assert attempt.until_event("notice")["source"] == "SIGTERM"
        lost = attempt.until_event("work_lost")
        attempt.send(signal.SIGKILL)
        ended = attempt.wait()
    saved = ended.named("checkpoint_saved")[-1]["step"]
    assert saved + lost["batches"] == 28


WORKERS = """
import keras, numpy
from keepfit import Resumable

class Data(keras.utils.PyDataset):
    def __len__(self):
        return 100

    def __getitem__(self, number):
        return numpy.ones((8, 4), "float32"), numpy.ones((8, 1), "float32")

model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
data = Data(workers=2, use_multiprocessing=True, max_queue_size=4)
model.fit(data, epochs=10**6, verbose=0, callbacks=[Resumable()])
"""


def test_data_from_worker_processes(tmp_path):
    """Worker processes neither take the job's signal, nor keep the job from ending."""
    (tmp_path / "train.py").write_text(WORKERS)
    with started(tmp_path, "--save-every", "50 batches", "train.py") as attempt:
        attempt.until_event("checkpoint_saved")
        attempt.send(signal.SIGTERM)
        preempted = attempt.until_event("preempted")
        began = time.monotonic()
        ended = attempt.wait()
    assert time.monotonic() - began < 10
    assert (ended.code, preempted["saved"]) == (75, True), ended.err


def test_a_scheduler_that_uses_signals_and_files(tmp_path):
    """SIGUSR1, an early warning of some schedulers, saves; a file that appears ends the job."""
    notice = tmp_path / "notice"
    flags = (*RARE_SAVES, "--watch", notice)
    with started(tmp_path, *flags, SMALL, "infinite", *ENDLESS) as attempt:
        assert attempt.until_event("machine_watched")["file"] == str(notice)
        attempt.until_event("attempt_started")
        attempt.send(signal.SIGUSR1)
        saved = attempt.until_event("checkpoint_saved")
        notice.touch()
        ended = attempt.wait()
    assert ended.code == 75, ended.err
    assert "continue" in ended.named("notice")[0]["reaction"]
    preempted = ended.one("preempted")
    assert (preempted["source"], preempted["saved"]) == (str(notice), True)
    assert preempted["lost"] == 0
    assert preempted["step"] > saved["step"]
