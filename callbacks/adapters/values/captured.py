"""The attributes of a callback at one moment, and what the log says of those that can't be kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from keepfit.callbacks import events
from keepfit.callbacks.adapters.fingerprints import MAX_READ_SIZE
from keepfit.callbacks.adapters.frozen import freeze
from keepfit.callbacks.adapters.values.kinds import Describing, Fixed, fixed_parts
from keepfit.callbacks.adapters.values.objects import TooManyObjects
from keepfit.callbacks.checkpoint.format.codec import Encoded, Tagged, UnsupportedValue
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.logs.logger import get_logger

log = get_logger()

MAX_COPY_SIZE = 64 << 20
"""Bytes of arrays of one callback that are copied at each save, changed or not: 10 ms."""

SLOW_SECONDS = 0.1
"""Time from which the log says that training waits for the comparison of large arrays."""

CONTAINS_ITSELF = object()
"""Stands for a value that contains itself; like any plain object, it can't be stored."""

_WAY_OUT = "give it get_state() and set_state(state)"
_UNSUPPORTED = "attributes of this kind can't be saved"
_LATE = "training has made them, and a resumed run has nothing to restore their state in"


@dataclass
class FrozenAttributes:
    """Attributes and fields by name, frozen.

    Attributes:
        values: the frozen values.
        owners: the objects of the script with variables that are in a value.
        tagged: names of values that contain a `Tagged`.
        shared: the attributes themselves that share large arrays with their frozen value.
    """

    values: dict[str, Any] = field(default_factory=dict)
    owners: dict[str, list[Any]] = field(default_factory=dict)
    tagged: set[str] = field(default_factory=set)
    shared: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, value: Any, describing: Describing) -> None:
        """Freeze a value and add it."""
        try:
            self.values[name] = freeze(value, describing)
        except RecursionError:
            self.values[name] = CONTAINS_ITSELF
        if describing.owners:
            self.owners[name] = describing.owners
        if describing.tagged:
            self.tagged.add(name)


@dataclass(frozen=True)
class ScriptParts:
    """The parts of attributes that only the script's own values can supply in another attempt.

    Attributes:
        parts: these parts, by the name of the attribute or field.
    """

    parts: Mapping[str, Collection[Fixed]]

    @classmethod
    def of(cls, frozen: FrozenAttributes) -> Self:
        """Return the parts of frozen values."""
        values = {name: frozen.values[name] for name in frozen.tagged}
        return cls({name: frozenset(fixed_parts(value)) for name, value in values.items()})

    def suffice(self, name: str, frozen: FrozenAttributes) -> bool:
        """Return whether the script has all parts that a frozen value needs."""
        if name not in frozen.tagged:
            return True
        return frozenset(fixed_parts(frozen.values[name])) <= frozenset(self.parts.get(name, ()))


def encoded_or_none(value: Any) -> Encoded | None:
    """Return the value encoded; None if it can't be stored."""
    try:
        return Encoded.of(value)
    except (UnsupportedValue, RecursionError):
        return None


class StateReport:
    """Reports attributes of one callback that can't be kept: each once.

    Attributes:
        lost: the names of attributes that were reported as lost.
    """

    def __init__(self, callback: str, guard: ExactnessGuard) -> None:
        self.lost: set[str] = set()
        self._callback = callback
        self._guard = guard
        self._unread: set[str] = set()
        self._slow = False

    def lose(self, values: Mapping[str, Any], late: Collection[str]) -> None:
        """Report attributes that a resumed run can't have, in one line.

        Args:
            values: the frozen values by name.
            late: names of those that could be stored, but only code of the script can make them
                again, and training has made them. The others are of kinds that can't be stored.
        """
        new = {n: v for n, v in values.items() if n.partition(".")[0] not in self.lost}
        if not new:
            return
        self.lost.update(name.partition(".")[0] for name in new)
        found = ((new.keys() - late, _UNSUPPORTED), (new.keys() & set(late), _LATE))
        fixes = ["make them in __init__ or on_train_begin, complete", _WAY_OUT]
        self._guard.report(
            events.STATE_UNKNOWN,
            callback=self._callback,
            attributes=[*new],
            kinds=[_kind_of(value) for value in new.values()],
            reason="; ".join(reason for names, reason in found if names),
            fix=f"{', or '.join(fixes[not new.keys() & set(late) :])}; otherwise these attributes "
            "are reset when the run is resumed",
        )

    def unread(self, names: Collection[str]) -> None:
        """Report attributes whose content is too large to be compared at each save."""
        new = [name for name in names if name not in self._unread]
        if not new:
            return
        self._unread.update(new)
        self._guard.report(
            events.STATE_UNKNOWN,
            callback=self._callback,
            attributes=new,
            reason=f"arrays of more than {MAX_READ_SIZE >> 20} MiB are saved when they are "
            "replaced, but not when they are changed in place",
            fix="if training does not change them, say so by array.flags.writeable = False; "
            f"otherwise {_WAY_OUT}",
        )

    def slow(self, names: list[str], seconds: float) -> None:
        """Say once that training waits for the comparison of large arrays."""
        if seconds <= SLOW_SECONDS or self._slow:
            return
        self._slow = True
        log.info(
            events.STATE_LARGE,
            callback=self._callback,
            attributes=names,
            seconds=round(seconds, 3),
            reason=f"arrays of more than {MAX_COPY_SIZE >> 20} MiB are compared at each save, "
            "while training waits",
            fix="if training does not change them, say so by array.flags.writeable = False",
        )


def _kind_of(value: Any) -> str:
    match value:
        case Tagged(content=str() as name):
            return name
        case Tagged(kind=kind):
            return kind
        case TooManyObjects():
            return "object"
    return "value that contains itself" if value is CONTAINS_ITSELF else type(value).__name__
