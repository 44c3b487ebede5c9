"""Parse the documents of the metadata service: pure, so that each case is a line of a test."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

SPOT = "spot/instance-action"
REBALANCE = "events/recommendations/rebalance"
MAINTENANCE = "events/maintenance/scheduled"
AUTOSCALING = "autoscaling/target-lifecycle-state"
WATCHED_PATHS = (SPOT, REBALANCE, MAINTENANCE, AUTOSCALING)

SPOT_NOTICE_SECONDS = 120.0
"""Seconds from a Spot notice to the end. A scheduled event this close is treated like one."""

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


def parse_document(path: str, text: str, now: datetime) -> MachineWarning | None:
    """Return the warning in `text`, the document at `path`; None if it contains none.

    Raises:
        ValueError, KeyError, TypeError: the document does not have the form for its path.
    """
    match path:
        case "spot/instance-action":
            document = _require_object(json.loads(text))
            seconds = seconds_until(document["time"], now)
            # A hibernation begins at once, whatever time the notice contains.
            at_once = document["action"] == "hibernate"
            # No notice comes more than two minutes ahead; if it seems so, the clocks differ.
            left = 0.0 if at_once else min(SPOT_NOTICE_SECONDS, seconds)
            return MachineWarning(f"{path}: {document['action']}", True, left)
        case "events/recommendations/rebalance":
            return MachineWarning(path, terminates=False)
        case "autoscaling/target-lifecycle-state":
            return MachineWarning(f"{path}: {text}", True) if text.strip() == "Terminated" else None
    return _next_maintenance(path, json.loads(text), now)


def _next_maintenance(path: str, events: Any, now: datetime) -> MachineWarning | None:
    if not isinstance(events, list):
        raise ValueError(f"{path} is not a list")  # noqa: TRY004 # the text, not an argument
    for event in map(_require_object, events):
        if event.get("State") in _ENDED_STATES:
            continue
        at = datetime.strptime(event["NotBefore"], "%d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
        seconds = (at - now).total_seconds()
        source = f"{path}: {event.get('Code', 'event')}"
        return MachineWarning(
            source, terminates=seconds <= SPOT_NOTICE_SECONDS, seconds=max(0.0, seconds)
        )
    return None


def seconds_until(text: str, now: datetime) -> float:
    """Return the seconds until a time like `2017-09-18T08:22:00Z`, UTC by default; 0 if past."""
    at = datetime.fromisoformat(text)
    return max(0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds())


def _require_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004
    return value
