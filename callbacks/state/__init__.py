"""What each callback must remember over an interruption, and nothing else.

Only state is stored, never configuration: a patience that the user has changed since stays
changed. A callback of your own takes part by having `get_state()`, which returns plain values and
arrays, and `set_state(state)`. Keras' callbacks have neither, so adapters stand in for them. For
any other callback, the attributes that training has changed are its state.
"""

from callbacks.state.base import Adapter, FirstTime, Held, KeepsFiles, State
from callbacks.state.holding import (
    beginning,
    capture,
    first,
    hold,
    logs,
    may_write,
    reopening,
    report_once,
    restore,
    settling,
    whole_files,
)

__all__ = [
    "Adapter",
    "FirstTime",
    "Held",
    "KeepsFiles",
    "State",
    "beginning",
    "capture",
    "first",
    "hold",
    "logs",
    "may_write",
    "reopening",
    "report_once",
    "restore",
    "settling",
    "whole_files",
]
