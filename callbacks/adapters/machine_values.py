"""Numbers that belong to one process on one machine: clock readings, process and thread ids, ports.

`on_train_begin` sets them anew in each attempt, and the value of an earlier attempt means nothing
there. They are told from other state by two attempts: a value that was read from a clock differs
between them by exactly what the clock differs by, whatever was added to it. A number that was drawn
at random or computed from data does not.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from pydantic import FiniteFloat

from keepfit.callbacks.checkpoint.format.key_names import shorten
from keepfit.callbacks.checkpoint.format.state_schema import InvalidState, check_fields

Number = int | float
Moment = Number | datetime

MOMENTS = (int, float, datetime)
"""Types of attributes that may have been read from a clock or the system."""

_CLOCKS = {"time": time.time, "monotonic": time.monotonic, "perf_counter": time.perf_counter}
_UNITS = (1, 1000, 10**9)
"""Seconds, milliseconds and nanoseconds."""

_SMALLEST_INT = 10**6
"""An integer below that is a count rather than a clock reading: seconds of a clock are floats."""

_PORTS = range(1024, 1 << 16)
_ROUNDING = 1e-6
"""Seconds by which a float of the order of the time since 1970 may be rounded, twice."""

_TOLERANCE = 0.01
"""Seconds at most between the moment at which a hook reads a clock and its start or its end."""

_APART = 10
"""Two attempts are told apart by a clock that differs by so many times the tolerance. One that
differs by less is restored, and is as good as new."""


@dataclass(frozen=True)
class Reading:
    """The numbers of this process and machine, at one moment.

    Attributes:
        clocks: seconds by the name of the clock.
        ids: the ids of the process, its parent and this thread, by name.
        many: the ids of all threads, and the ports of the process's own sockets.
    """

    clocks: Mapping[str, float] = field(default_factory=dict)
    ids: Mapping[str, int] = field(default_factory=dict)
    many: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    def now(cls) -> Self:
        """Return the present numbers."""
        thread = threading.get_native_id()
        idents = tuple(t.ident for t in threading.enumerate() if t.ident is not None)
        return cls(
            {name: clock() for name, clock in _CLOCKS.items()},
            {"process": os.getpid(), "parent": os.getppid(), "thread": thread},
            {"threads": idents, "ports": _own_ports()},
        )


@dataclass(frozen=True)
class Begin:
    """What `on_train_begin` of one callback has left in this attempt.

    Attributes:
        numbers: the attributes that are numbers or dates with a time, after it.
        seconds: how long it took.
        reading: the numbers of the process and machine, after it.
    """

    numbers: Mapping[str, Moment]
    seconds: float
    reading: Reading

    def unchanged(self, state: Mapping[str, Any]) -> list[str]:
        """Return the names of the numbers that are in a state as `on_train_begin` left them."""
        return [
            name
            for name, number in self.numbers.items()
            if type(state.get(name)) is type(number) and state[name] == number
        ]

    def plain(self, names: list[str]) -> dict[str, Any]:
        """Return what another attempt compares, as plain values."""
        reading = self.reading
        return {
            "names": names,
            "seconds": self.seconds,
            "clocks": dict(reading.clocks),
            "ids": dict(reading.ids),
            "many": {name: list(numbers) for name, numbers in reading.many.items()},
        }

    @staticmethod
    def check(plain: object, state: Mapping[str, Any]) -> None:
        """Check what a store contains as the output of `plain`. Raises InvalidState.

        Args:
            state: the state that contains it.
        """
        checked = check_fields(
            plain,
            {
                "names": list[str],
                "seconds": FiniteFloat,
                "clocks": dict[str, FiniteFloat],
                "ids": dict[str, int],
                "many": dict[str, list[int]],
            },
        )
        for name in checked["names"]:
            if type(state.get(name)) not in MOMENTS:
                raise InvalidState(f"{shorten(repr(name), 80)} is not a number in this state")

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], state: Mapping[str, Any]) -> Self:
        """Return what a checkpoint contains of the attempt that saved it."""
        many = {name: tuple(numbers) for name, numbers in plain["many"].items()}
        return cls(
            {name: state[name] for name in plain["names"]},
            plain["seconds"],
            Reading(plain["clocks"], plain["ids"], many),
        )


def belongs_to_attempt(name: str, saved: Begin, present: Begin) -> bool:
    """Return whether an attribute is a number that each attempt takes from its own machine.

    Args:
        name: the name of an attribute that is a number.
        saved: the attempt that has saved it, unchanged since its `on_train_begin`.
        present: the attempt that resumes.
    """
    before, now = saved.numbers.get(name), present.numbers.get(name)
    if before is None or now is None or type(before) is not type(now) or before == now:
        return False  # an equal value may as well be restored
    if isinstance(before, datetime) or isinstance(now, datetime):
        seconds = _seconds_between(before, now)
        return seconds is not None and _follows_clock(0.0, seconds, saved, present)
    return _follows_clock(before, now, saved, present) or _is_id(before, now, saved, present)


def _seconds_between(before: Moment, now: Moment) -> float | None:
    """Return the time between two dates; None if only one of them has a time zone."""
    if not isinstance(before, datetime) or not isinstance(now, datetime):
        return None
    if (before.tzinfo is None) != (now.tzinfo is None):
        return None
    return (now - before).total_seconds()


def _follows_clock(before: Number, now: Number, saved: Begin, present: Begin) -> bool:
    whole = isinstance(before, int)
    if whole and min(abs(before), abs(now)) < _SMALLEST_INT:
        return False
    tolerance = min(max(saved.seconds, present.seconds), _TOLERANCE) + _ROUNDING
    return any(
        abs((now - before) - seconds * unit) <= tolerance * unit + whole
        for seconds in _elapsed(saved, present)
        if abs(seconds) > _APART * tolerance
        for unit in _UNITS
    )


def _elapsed(saved: Begin, present: Begin) -> list[float]:
    """Return by what the clocks differ, between the ends of both hooks and between their starts."""
    then, here = saved.reading.clocks, present.reading.clocks
    ends = [here[clock] - then[clock] for clock in then.keys() & here.keys()]
    return [*ends, *(end - (present.seconds - saved.seconds) for end in ends)]


def _is_id(before: Number, now: Number, saved: Begin, present: Begin) -> bool:
    then, here = saved.reading, present.reading
    ids = any(before == then.ids.get(name) and now == number for name, number in here.ids.items())
    return ids or any(
        before in then.many.get(name, ()) and now in numbers for name, numbers in here.many.items()
    )


def _own_ports() -> tuple[int, ...]:
    """Return the ports of the process's own TCP and UDP sockets, as Linux lists them.

    Other systems have no such list; there, a port is restored like any other number.
    """
    own = set()
    for link in _entries("/proc/self/fd"):
        try:
            own.add(str(link.readlink()))
        except OSError:  # closed meanwhile
            continue
    ports = set()
    for name in ("tcp", "tcp6", "udp", "udp6"):
        for row in _lines(f"/proc/self/net/{name}"):
            _, local, *_, inode = row.split()[:10]
            if f"socket:[{inode}]" in own:
                ports.add(int(local.rpartition(":")[2], 16))
    return tuple(port for port in sorted(ports) if port in _PORTS)


def _entries(folder: str) -> list[Path]:
    path = Path(folder)
    return list(path.iterdir()) if path.is_dir() else []


def _lines(path: str) -> list[str]:
    """Return the lines of a table without its header; none where the system has no such table."""
    table = Path(path)
    return table.read_text().splitlines()[1:] if table.is_file() else []
