"""File operations that kill the process, fail, or call a function at a chosen step."""

import errno
import os
import signal
from contextlib import contextmanager

from keepfit.callbacks.storage.file_operations import FileOperations


def kill_process(step):
    """Kill the process as the loss of a machine does: no handler runs, no buffer is flushed."""
    os.kill(os.getpid(), signal.SIGKILL)


def fail_with_io_error(step):
    """Fail as a bad disk does."""
    raise OSError(errno.EIO, f"Input/output error at step {step}")


class FaultyFiles(FileOperations):
    """File operations that record their steps since `arm`, and call `fault` before step `at`.

    A write has two steps: before anything is written, and when half of it is.
    """

    def __init__(self, fault=kill_process):
        self._fault = fault
        self._at = None
        self.steps = []

    def arm(self, at=None):
        self.steps, self._at = [], at

    def write(self, path, body):
        self._step("write", path)
        content = b"".join(body)
        half = len(content) // 2
        with open(path, "xb", buffering=0) as file:
            file.write(content[:half])
            self._step("half of a write", path)
            file.write(content[half:])

    def sync(self, path):
        self._step("sync", path)
        super().sync(path)

    def rename(self, source, target):
        self._step("rename", target)
        super().rename(source, target)

    def remove(self, path):
        self._step("remove", path)
        super().remove(path)

    def make_folder(self, path):
        self._step("make_folder", path)
        super().make_folder(path)

    @contextmanager
    def locked(self, path):
        self._step("lock", path)
        with super().locked(path):
            yield

    def _step(self, action, path):
        self.steps.append((action, path))
        if self._at == len(self.steps) - 1:
            self._fault(len(self.steps) - 1)
