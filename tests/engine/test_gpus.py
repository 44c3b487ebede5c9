"""A GPU that training does not use: what is said, and when nothing is said."""

from __future__ import annotations

import pytest

from keepfit.callbacks import events
from keepfit.callbacks.engine import gpus
from keepfit.callbacks.engine.gpus import find_unused_gpu
from keepfit.callbacks.engine.preemption import PreemptionState
from keepfit.callbacks.engine.run import Run
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.settings import Settings
from keepfit.callbacks.storage.local import LocalStore
from tests.checkpoint.samples import RUN
from tests.engine.fits import AnyFit

DEVICE = "dev/nvidia0"
ON_MACHINE = "proc/driver/nvidia/gpus/0000:00:1e.0/information"


def found(root, *files, of_tensorflow=0, **environment):
    """Return what is found on a machine with these files.

    Args:
        of_tensorflow: the number of GPUs that TensorFlow has; None if it may not be asked.
    """
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()

    def count():
        assert of_tensorflow is not None, "TensorFlow was asked"
        return of_tensorflow

    return find_unused_gpu(environment, root, count)


def test_a_gpu_that_tensorflow_does_not_find(tmp_path):
    """The image has no TensorFlow for GPUs, or one that the driver does not support."""
    unused = found(tmp_path, DEVICE, "dev/nvidiactl", ON_MACHINE)
    assert "/dev/nvidia0" in unused.reason
    assert "VARIANT=gpu" in unused.fix


def test_a_gpu_that_the_container_does_not_have(tmp_path):
    """The driver's files tell of the machine: the job has requested no GPU."""
    unused = found(tmp_path, ON_MACHINE, of_tensorflow=None)
    assert "the container has none" in unused.reason
    assert "--gpus 1" in unused.fix


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"files": ["dev/nvidiactl", "dev/nvidia-uvm", "dev/null"]},
        {"files": [DEVICE, ON_MACHINE], "of_tensorflow": 1},
        {"files": [DEVICE], "CUDA_VISIBLE_DEVICES": ""},
        {"files": [DEVICE], "CUDA_VISIBLE_DEVICES": "-1"},
        {"files": [ON_MACHINE], "NVIDIA_VISIBLE_DEVICES": "void"},
        {"files": [ON_MACHINE], "NVIDIA_VISIBLE_DEVICES": "none"},
    ],
    ids=str,
)
def test_nothing_is_said(given, tmp_path):
    """There is no GPU, it is used, or someone has hidden it; TensorFlow is asked only about one."""
    given = {"files": [], "of_tensorflow": None, **given}
    assert found(tmp_path, *given.pop("files"), **given) is None


def test_it_is_said_when_a_run_is_claimed(tmp_path, monkeypatch):
    """Once for an attempt, however many fits it has."""
    monkeypatch.setattr(gpus, "ROOT", tmp_path / "machine")
    for name in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    assert found(tmp_path / "machine", ON_MACHINE)
    settings = Settings.resolve(store=f"file://{tmp_path}/runs", run=RUN)
    run = Run(settings, LocalStore(tmp_path / "runs"), PreemptionState())
    with capture_logs() as logs:
        for fit in (AnyFit("a"), AnyFit("b")):
            run.begin_fit(fit)
            run.end_fit()
    run.close()
    (entry,) = [log for log in logs if log["event"] == events.GPU_UNUSED]
    assert "--gpus 1" in entry["fix"]


@pytest.mark.parametrize("shown", ["0", "all", "GPU-8a56a4bc"])
def test_a_visible_gpu_is_looked_for(shown, tmp_path):
    """Variables that name GPUs hide nothing."""
    assert found(tmp_path, DEVICE, NVIDIA_VISIBLE_DEVICES=shown)
