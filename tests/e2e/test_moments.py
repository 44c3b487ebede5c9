"""Every kind of interruption at every kind of moment: exit code, log line, and the same result."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.cases import give_spot_notice
from tests.e2e.process import ROOT, Ended, Process, document, run, started
from tests.rotation import marks_of

SCRIPT = ROOT / "tests/e2e/jobs/moments.py"
STEPS = 16
FLAGS = ("--deterministic", "--save-every", "2 batches")

MOMENTS = {
    "first_batch": "1:batch:0:0",
    "within_epoch": "1:batch:1:2",
    "last_batch": "2:batch:0:3",
    "validation": "2:validation:1:0",
    "between_epochs": "2:epoch:1:0",
    "between_fits": "between fits",
    "in_save": "2:save:0:1",
    "after_end": "end",
}
"""The moments, as the script names them: FIT:HOOK:EPOCH:BATCH."""


@dataclass(frozen=True)
class Waiting:
    """A process that waits at its moment.

    Attributes:
        process: the process.
        notice: the FIFO that it watches for notices.
        go: the FIFO in which it waits for a line.
    """

    process: Process
    notice: Path
    go: int

    def release(self, line: str = "go on") -> None:
        """Let the script continue."""
        os.write(self.go, f"{line}\n".encode())


def sigkill(waiting: Waiting) -> None:
    """Kill the process, as a power cut would."""
    waiting.process.send(signal.SIGKILL)


def sigterm(waiting: Waiting) -> None:
    """Send SIGTERM, and let the script continue when it is noticed."""
    waiting.process.send(signal.SIGTERM)
    waiting.process.until_event("notice")
    waiting.release()


def spot_notice(waiting: Waiting) -> None:
    """Give a notice like EC2's, and let the script continue when it is noticed."""
    give_spot_notice(waiting.notice)
    waiting.process.until_event("notice")
    waiting.release()


def exception(waiting: Waiting) -> None:
    """Let the script raise an error of its own."""
    waiting.release("raise")


def second_ctrl_c(waiting: Waiting) -> None:
    """Send the second SIGINT while the script is still at the moment, or is cleaning up."""
    waiting.process.send(signal.SIGINT)
    waiting.process.until_event("notice")
    waiting.process.send(signal.SIGINT)


INTERRUPTIONS: tuple[Callable[[Waiting], None], ...] = (
    sigkill,
    sigterm,
    spot_notice,
    exception,
    second_ctrl_c,
)

KILLED = -signal.SIGKILL
CODES = {
    "first_batch": (KILLED, 75, 75, 1, 130),
    "within_epoch": (KILLED, 75, 75, 1, 130),
    "last_batch": (KILLED, 75, 75, 1, 130),
    "validation": (KILLED, 75, 75, 1, 130),
    "between_epochs": (KILLED, 75, 75, 1, 130),
    "between_fits": (KILLED, 75, 75, 1, 130),
    "in_save": (KILLED, 75, 75, 1, 130),
    "after_end": (KILLED, 75, 0, 1, 130),
}
"""The exit codes: a row for each moment, a column for each interruption.

After the end of the last fit, a Spot notice finds nothing to save, and leaves the script the time
to end. SIGTERM asks for the end of the process, whose script may not have written its results yet.
"""

TABLE = [
    (moment, interruption, code)
    for moment, codes in CODES.items()
    for interruption, code in zip(INTERRUPTIONS, codes, strict=True)
]
CELLS = [
    pytest.param(
        moment,
        interruption,
        code,
        id=f"{moment}-{interruption.__name__}",
        marks=marks_of(number),
    )
    for number, (moment, interruption, code) in enumerate(TABLE)
]
"""All cells; each day, a fourth of them belongs to the quick tests."""


@contextmanager
def waiting_at(folder: Path, moment: str) -> Iterator[Waiting]:
    """Start an attempt, and yield it when it waits at the moment."""
    notice = folder / "notice"
    os.mkfifo(folder / "go")
    go = os.open(folder / "go", os.O_RDWR)  # with a writer, the script's reads wait
    flags = (*FLAGS, "--on-notice", "leave", "--watch", notice)
    try:
        with started(folder, *flags, SCRIPT, AT=MOMENTS[moment]) as process:
            process.until(lambda line: line == "moment\n")
            yield Waiting(process, notice, go)
    finally:
        os.close(go)


def committed_steps(folder: Path) -> int:
    """Return the number of batches in the newest committed checkpoint."""
    checkpoints = document(folder / "runs/moments/HEAD.json")["checkpoints"]
    if not checkpoints:
        return 0
    return document(folder / "runs" / checkpoints[0])["position"]["step"]


def trained_steps(folder: Path) -> int:
    """Return the number of batches that all attempts have trained."""
    return (folder / "trained").stat().st_size


def results(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files that the training writes."""
    paths = [path for pattern in ("*.json", "*.csv", "*.h5") for path in folder.glob(pattern)]
    assert len(paths) == 5
    return {path.name: path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    """Return the results of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    ended = run(folder, *FLAGS, SCRIPT)
    assert ended.code == 0, ended.err
    assert trained_steps(folder) == committed_steps(folder) == STEPS
    return results(folder)


def check_log(ended: Ended, *, trained: int, committed: int) -> None:
    """Check that a preemption, and nothing else, is logged, with what a reader of the store finds.

    Outside training, the first Ctrl-C is logged if it is faster than the second.
    """
    assert committed <= trained
    times = {75: (1,), 130: (0, 1)}.get(ended.code, (0,))
    assert len(ended.named("preempted")) in times, ended.err
    for line in ended.named("preempted"):
        lost = trained - committed
        assert (line["saved"], line["lost"]) == (lost == 0, lost), ended.err


@pytest.mark.parametrize(("moment", "interruption", "code"), CELLS)
def test_interruption(tmp_path, whole, moment, interruption, code):
    """The next attempt trains what the store lacks, and the run equals an uninterrupted one."""
    with waiting_at(tmp_path, moment) as waiting:
        interruption(waiting)
        ended = waiting.process.wait()
    assert ended.code == code, ended.err
    trained, committed = trained_steps(tmp_path), committed_steps(tmp_path)
    check_log(ended, trained=trained, committed=committed)
    if interruption in (sigterm, spot_notice):
        assert committed == trained, "a notice leaves time to save every batch"
    again = run(tmp_path, *FLAGS, SCRIPT)
    assert again.code == 0, again.err
    assert trained_steps(tmp_path) == trained + STEPS - committed
    assert results(tmp_path) == whole
