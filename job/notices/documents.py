"""Parse the documents of the metadata service: pure, so that each case is a line of a test."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from keepfit.callbacks.logs.printable import printable

SPOT = "spot/instance-action"
REBALANCE = "events/recommendations/rebalance"
MAINTENANCE = "events/maintenance/scheduled"
AUTOSCALING = "autoscaling/target-lifecycle-state"
WATCHED_PATHS = (SPOT, REBALANCE, MAINTENANCE, AUTOSCALING)

SPOT_NOTICE_SECONDS = 120.0
"""Seconds from a Spot notice to the end. A scheduled event this close is treated like one."""

MAX_NOTICE_SECONDS = 366 * 86400.0
"""Seconds that a notice may be ahead. A time beyond is a mistake, and more than waits can take."""

MAX_EXCERPT = 200
"""Characters of a text of a server that are logged at most."""

_ENDED_STATES = ("completed", "canceled")


@dataclass(frozen=True)
class MachineWarning:
    """A warning that this machine will, or may, be taken away.

    Attributes:
        source: the path of the document and its essential content, as users know it.
        terminates: the machine will be taken away; otherwise it may be, and a checkpoint is useful.
        seconds: until it is taken away; 0 if that time is past; None if unknown.
        time_known: `seconds` is from the source; otherwise it is the usual time.
    """

    source: str
    terminates: bool
    seconds: float | None = None
    time_known: bool = True


def excerpt(value: object) -> str:
    """Return the start of a text for the log, without control characters; else a value's type."""
    if not isinstance(value, str):
        return f"a value of type {type(value).__name__}"
    cut = value if len(value) <= MAX_EXCERPT else f"{value[:MAX_EXCERPT]}…"
    return printable(cut)


def load_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is no JSON, or nested more deeply than Python can parse.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_document(path: str, text: str, now: datetime) -> MachineWarning | None:
    """Return the warning in `text`, the document at `path`; None if it contains none.

    Raises:
        ValueError, KeyError, TypeError: the document does not have the form for its path.
    """
    match path:
        case "spot/instance-action":
            document = _require_object(load_json(text))
            action = _require_text(document["action"], "action")
            seconds = seconds_until(document["time"], now)
            # A hibernation begins at once, whatever time the notice contains.
            at_once = action == "hibernate"
            # No notice comes more than two minutes ahead; if it seems so, the clocks differ.
            left = 0.0 if at_once else min(SPOT_NOTICE_SECONDS, seconds)
            return MachineWarning(f"{path}: {excerpt(action)}", True, left)
        case "events/recommendations/rebalance":
            return MachineWarning(path, terminates=False)
        case "autoscaling/target-lifecycle-state":
            terminated = text.strip() == "Terminated"
            return MachineWarning(f"{path}: Terminated", True) if terminated else None
    return _next_maintenance(path, load_json(text), now)


def _next_maintenance(path: str, events: Any, now: datetime) -> MachineWarning | None:
    if not isinstance(events, list):
        raise ValueError(f"{path} is not a list")  # noqa: TRY004 # the text, not an argument
    for event in map(_require_object, events):
        if event.get("State") in _ENDED_STATES:
            continue
        begins = _require_text(event["NotBefore"], "NotBefore")
        at = datetime.strptime(begins, "%d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
        seconds = (at - now).total_seconds()
        source = f"{path}: {excerpt(event.get('Code', 'event'))}"
        return MachineWarning(
            source, terminates=seconds <= SPOT_NOTICE_SECONDS, seconds=max(0.0, seconds)
        )
    return None


def seconds_until(time: object, now: datetime) -> float:
    """Return the seconds until a time like `2017-09-18T08:22:00Z`, UTC by default; 0 if past.

    Raises:
        ValueError: it has another form, or is more than MAX_NOTICE_SECONDS ahead.
    """
    try:
        at = datetime.fromisoformat(_require_text(time, "time"))
    except ValueError:
        raise ValueError(f"{excerpt(time)!r} is not of the form 2026-11-23T12:00:00Z") from None
    seconds = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds()
    if seconds > MAX_NOTICE_SECONDS:
        raise ValueError(f"{excerpt(time)!r} is more than a year ahead")
    return max(0.0, seconds)


def _require_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004
    return value


def _require_text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"its {name} is not a text")  # noqa: TRY004
    return value
