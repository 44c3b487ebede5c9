"""Notice that the script is about to open a file to append to it.

Python tells an audit hook of each file before it opens it, whatever function the script uses. Such
a hook can't be removed, so there is one for the process; what it does is decided by its listener.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable
from functools import cache
from typing import Any

Listener = Callable[[str | int], None]


class AppendOpens:
    """Tells a listener of the files that one thread opens to append to them.

    Attributes:
        named: what the log has named in this process, so that it is named once.
    """

    def __init__(self) -> None:
        self.named: set[str] = set()
        self._listener: Callable[[], Listener | None] | None = None
        self._thread = (0, 0)
        self._telling = False

    def listen(self, listener: Listener) -> None:
        """Tell this bound method, in place of any other, of what the calling thread opens.

        It is called with a path, or with the number of a file that is open already. Its object is
        not kept alive.
        """
        self._thread = _present_thread()
        self._listener = weakref.WeakMethod(listener)

    def stop(self) -> None:
        """Tell nobody any more."""
        self._listener = None

    def opens(self, path: Any, flags: int) -> None:
        """Tell the listener of a file that is about to be opened, if it is of its thread."""
        weak = self._listener
        if weak is None or self._telling or not flags & os.O_APPEND:
            return
        if self._thread != _present_thread():
            return
        self._telling = True  # the listener opens files itself
        try:
            if listener := weak():
                listener(path if isinstance(path, int) else os.fsdecode(path))
        finally:
            self._telling = False


@cache
def append_opens() -> AppendOpens:
    """Return the one of this process, and install its audit hook at the first call.

    The hook costs 0.25 us for each event, of which a step of a compiled model has none. That needs
    a plain function: Python looks for an attribute of it each time, and does not find it in a
    bound method in less than 1 us.
    """
    watch = AppendOpens()

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            watch.opens(path, flags)

    sys.addaudithook(audit)
    return watch


def _present_thread() -> tuple[int, int]:
    """Return the process and the thread: a forked process has its parent's thread."""
    return os.getpid(), threading.get_ident()
