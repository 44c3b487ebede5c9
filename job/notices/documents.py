"""What the metadata service says, as a notice: pure, so that each case is a line of a test."""

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
"""Seconds that a Spot notice leaves, and before a scheduled event at which it is acted on so."""

_ENDED_STATES = ("completed", "canceled")


@dataclass(frozen=True)
class MachineWarning:
    """What is to come.

    Attributes:
        source: the path, and what is said there, as people know it.
        leaves: the machine goes; otherwise it may, and a checkpoint now is worth having.
        seconds: until it goes; 0 if it should have gone; None where that is not said.
        known: the source itself says so; otherwise it is what is usual.
    """

    source: str
    leaves: bool
    seconds: float | None = None
    known: bool = True


def parse_document(path: str, text: str, now: datetime) -> MachineWarning | None:
    """What `text` at `path` warns of; None if of nothing.

    Raises:
        ValueError: it is not of the form that the path has.
    """
    match path:
        case "spot/instance-action":
            said = _object(json.loads(text))
            seconds = seconds_until(said["time"], now)
            # A hibernation begins at once, whatever time is named.
            at_once = said["action"] == "hibernate"
            # Nor is it more than two minutes: then it is the clocks that differ.
            left = 0.0 if at_once else min(SPOT_NOTICE_SECONDS, seconds)
            return MachineWarning(f"{path}: {said['action']}", True, left)
        case "events/recommendations/rebalance":
            return MachineWarning(path, leaves=False)
        case "autoscaling/target-lifecycle-state":
            return MachineWarning(f"{path}: {text}", True) if text.strip() == "Terminated" else None
    return _next_maintenance(path, json.loads(text), now)


def _next_maintenance(path: str, found: Any, now: datetime) -> MachineWarning | None:
    if not isinstance(found, list):
        raise ValueError(f"{path} is no list")  # noqa: TRY004 # of the text, not of an argument
    for event in map(_object, found):
        if event.get("State") in _ENDED_STATES:
            continue
        at = datetime.strptime(event["NotBefore"], "%d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
        seconds = (at - now).total_seconds()
        source = f"{path}: {event.get('Code', 'event')}"
        return MachineWarning(
            source, leaves=seconds <= SPOT_NOTICE_SECONDS, seconds=max(0.0, seconds)
        )
    return None


def seconds_until(text: str, now: datetime) -> float:
    """Until a time as in `2017-09-18T08:22:00Z`, which is UTC in any case; 0 if it is past."""
    at = datetime.fromisoformat(text)
    return max(0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds())


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004
    return value
