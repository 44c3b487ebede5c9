"""Commits and claims on a disk that is really full."""

import os
import resource
import subprocess
from contextlib import contextmanager

import pytest

from keepfit.callbacks.checkpoint.read.reader import read_newest_usable
from keepfit.callbacks.storage.base import StorageError
from keepfit.callbacks.storage.local import LocalStore
from tests.checkpoint.samples import (
    RUN,
    assert_all_committed_verify,
    assert_is,
    assert_no_orphans,
    head_of,
    snapshot,
    take_over,
    trained,
)


@contextmanager
def small_disk(folder):
    """Yield a function that fills a file system of 4 MiB or, without root, limits file sizes."""
    folder.mkdir()
    if os.geteuid() != 0:
        yield limited
        return
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)],
        check=True,
    )
    try:
        yield lambda left: filled(folder, left)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def filled(folder, left):
    """Fill the disk except for `left` bytes."""
    disk = os.statvfs(folder)
    path = folder / "filler"
    path.write_bytes(bytes(max(disk.f_bavail * disk.f_frsize - left, 0)))
    yield
    path.unlink()


@contextmanager
def limited(left):
    """Let no file of this process grow beyond `left` bytes."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (min(left, 200), old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("left", [0, 4096, 8192, 16384])
def test_full_disk(tmp_path, left):
    """The commit reports that the disk is full, the last checkpoint loads, and later saves work."""
    with small_disk(tmp_path / "disk") as full:
        store = LocalStore(tmp_path / "disk")
        attempt = trained(store, 1, 2)
        with full(left):
            for step in (3, 4):
                with pytest.raises(StorageError, match=r"No space left on device|File too large"):
                    attempt.commit(snapshot(step))
                assert_is(read_newest_usable(store, RUN, head_of(store).checkpoints, fit=0), 2)
                assert_all_committed_verify(store)
        attempt.commit(snapshot(5))
        attempt.sweep()
        assert_is(read_newest_usable(store, RUN, head_of(store).checkpoints, fit=0), 5)
        assert_no_orphans(tmp_path / "disk")


def test_claim_on_a_full_disk(tmp_path):
    """A claim that can't be written leaves the run to the attempt before it."""
    with small_disk(tmp_path / "disk") as full:
        store = LocalStore(tmp_path / "disk")
        attempt = trained(store, 1)
        before = head_of(store)
        with full(0), pytest.raises(StorageError, match=r"HEAD\.json: "):
            take_over(store)
        assert head_of(store) == before
        attempt.commit(snapshot(2))
        assert take_over(store).number == 2
