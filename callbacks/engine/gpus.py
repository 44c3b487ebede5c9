"""Warn of a GPU of NVIDIA's that training does not use, though the machine or the container has it.

Such a run is not wrong, only many times slower and more expensive than it was meant to be.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from keepfit.callbacks import events
from keepfit.callbacks.logs.logger import get_logger

log = get_logger()

ROOT: Final = Path("/")
"""The folder that has `dev` and `proc`."""

_HIDDEN: Final = {
    "CUDA_VISIBLE_DEVICES": frozenset({"", "-1", "NoDevFiles"}),
    "NVIDIA_VISIBLE_DEVICES": frozenset({"none", "void"}),
}
"""Values of variables that hide all GPUs: someone has decided so."""


@dataclass(frozen=True)
class UnusedGpu:
    """Why a GPU is not used, and what to change."""

    reason: str
    fix: str


def find_unused_gpu(
    environment: Mapping[str, str], root: Path, count_of_tensorflow: Callable[[], int]
) -> UnusedGpu | None:
    """Return why training uses no GPU although there is one; None if it does, or if it may not.

    Args:
        environment: the variables of this process.
        root: the folder that has `dev` and `proc`.
        count_of_tensorflow: returns the number of GPUs that TensorFlow has found; asked only where
            the container has one.
    """
    if any(environment.get(name) in values for name, values in _HIDDEN.items()):
        return None
    # The driver creates a device for each GPU; NVIDIA's runtime lets a container see its own.
    nodes = sorted(root.glob("dev/nvidia[0-9]*"))
    if nodes and not count_of_tensorflow():
        return UnusedGpu(
            f"there is a GPU (/dev/{nodes[0].name}), but TensorFlow finds none, so it trains on "
            f"the CPU",
            "use an image with TensorFlow for GPUs (scripts/image --build-arg VARIANT=gpu), whose "
            "CUDA the machine's driver supports",
        )
    # Docker hides no file of the driver in /proc, so it tells of the machine.
    if not nodes and any(root.glob("proc/driver/nvidia/gpus/*")):
        return UnusedGpu(
            "this machine has a GPU, but the container has none of its devices, so TensorFlow "
            "trains on the CPU",
            "request one: keepfit submit --gpus 1, or docker run --gpus all",
        )
    return None


def warn_of_unused_gpu() -> None:
    """Log a warning if training uses no GPU although there is one."""
    if unused := find_unused_gpu(os.environ, ROOT, _count_of_tensorflow):
        log.warning(events.GPU_UNUSED, reason=unused.reason, fix=unused.fix)


def _count_of_tensorflow() -> int:
    """Return the number of GPUs that TensorFlow has found; the script has imported it before."""
    import tensorflow as tf

    return len(tf.config.list_physical_devices("GPU"))
