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

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        """The audit hook. A process opens few files, but Python calls this for other events too."""
        if event != "open" or self._listener is None:
            return
        path, _, flags = args
        if not flags & os.O_APPEND or self._thread != _present_thread():
            return
        weak, self._listener = self._listener, None  # the listener opens files itself
        try:
            if listener := weak():
                listener(path if isinstance(path, int) else os.fsdecode(path))
        finally:
            self._listener = weak


@cache
def append_opens() -> AppendOpens:
    """Return the one of this process, and install its audit hook at the first call."""
    watch = AppendOpens()
    sys.addaudithook(watch.audit)
    return watch


def _present_thread() -> tuple[int, int]:
    """Return the process and the thread: a forked process has its parent's thread."""
    return os.getpid(), threading.get_ident()
