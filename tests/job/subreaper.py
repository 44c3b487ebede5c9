"""A replacement for process 1 where no namespace can be created: `subreaper.py COMMAND…`."""

from __future__ import annotations

import ctypes
import os
import sys

from keepfit.job import pid1

PR_SET_CHILD_SUBREAPER = 36

if __name__ == "__main__":
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    pid1.supervise()
    os.execv(sys.argv[1], sys.argv[1:])
