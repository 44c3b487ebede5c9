"""The duties of a container's first process, and a warning if a shell there swallows SIGTERM.

The kernel drops a signal to process 1 that has no handler, and makes it the parent of every
orphan, which it has to reap. Python can't reap orphans beside `subprocess` and `multiprocessing`,
which wait for children of their own: so process 1 becomes a small supervisor, and the job is its
child, as with `docker --init`.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from keepfit.callbacks import events
from keepfit.callbacks.logs.logger import get_logger
from keepfit.job.process.children import Supervisor, exit_code

log = get_logger()

SHELLS = ("sh", "bash", "dash", "ash", "zsh", "ksh", "busybox")
CHILD_ONLY_INITS = ("docker-init", "tini", "catatonit")
"""Init processes that forward signals to their child only, and exit when it does."""


def supervise_if_pid1() -> None:
    """Continue in a child process if this is process 1; otherwise return at once."""
    if os.getpid() == 1:
        supervise()


def supervise() -> None:
    """Return in a new child only; this process forwards signals, reaps, and exits with its code."""
    supervisor = Supervisor()
    child = supervisor.fork()
    if child:
        os._exit(exit_code(supervisor.forward_until_end(child).code))


def warn_if_behind_shell(proc: Path = Path("/proc"), parent: int | None = None) -> None:
    """Log a warning if SIGTERM to this container would reach only a shell."""
    shell = find_shell_parent(proc, os.getppid() if parent is None else parent)
    if shell:
        log.warning(
            events.BEHIND_SHELL,
            shell=shell,  # nosec B604 # a field of the line, not a call
            reason="SIGTERM reaches only the shell: nothing is saved when the container is stopped",
            fix='use ENTRYPOINT ["keepfit", "run", …] in exec form, or `exec keepfit run …` in the '
            "script that starts it",
        )


def find_shell_parent(proc: Path, parent: int) -> str | None:
    """Return the command of the shell that would receive a container's SIGTERM, or None.

    Args:
        proc: the folder in which the kernel describes processes.
        parent: the id of this process's parent.
    """
    try:
        pid1_command = _command(proc, 1)
        if _name(pid1_command) in SHELLS and not _catches_sigterm(proc, 1):
            return " ".join(pid1_command)
        parent_command = _command(proc, parent)
        if (
            _name(pid1_command) in CHILD_ONLY_INITS
            and _name(parent_command) in SHELLS
            and _status(proc, parent, "PPid") == "1"
            and not _catches_sigterm(proc, parent)
        ):
            return " ".join(parent_command)
    except OSError:  # there is no /proc, or it is hidden: nothing is known
        return None
    return None


def _command(proc: Path, process: int) -> list[str]:
    content = (proc / str(process) / "cmdline").read_bytes().decode(errors="replace")
    return content.rstrip("\0").split("\0")


def _name(command: list[str]) -> str:
    return Path(command[0]).name.removeprefix("-")


def _catches_sigterm(proc: Path, process: int) -> bool:
    """Return whether it handles SIGTERM: a script with `trap … TERM` may well forward it."""
    caught = int(_status(proc, process, "SigCgt") or "0", 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def _status(proc: Path, process: int, field: str) -> str | None:
    for line in (proc / str(process) / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return value.strip()
    return None
