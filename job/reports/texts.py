"""Facts of a report as short texts for people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from keepfit.callbacks.journal.document import Journal, Machine
from keepfit.callbacks.journal.goodput import AttemptGoodput


def describe_machine(machine: Machine) -> str:
    """Return type, zone and price class of a machine, or its host name."""
    known = (machine.instance_type, machine.zone, machine.price_class)
    return " ".join(filter(None, known)) or machine.host or ""


def describe_end(attempt: AttemptGoodput, journal: Journal, *, newest: bool) -> str:
    """Return why an attempt ended, and its exit code, or what is known instead.

    Args:
        newest: no later attempt has a journal.
    """
    if attempt.reason is None:
        return "no record: running, or killed" if newest else "no record: killed"
    code = journal.end.exit_code if journal.end else None
    text = attempt.reason if code is None else f"{attempt.reason} ({code})"
    return f"{text}: {attempt.detail}" if attempt.detail else text


def format_time(moment: datetime) -> str:
    """Return a time of day in UTC."""
    try:
        return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    except OverflowError:  # a forged journal: the year 1 or 9999
        return moment.isoformat()


def format_seconds(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds."""
    return str(timedelta(seconds=round(seconds)))


def format_short(seconds: float) -> str:
    """Return a duration in its two largest units: "3 h 20 min", "4.2 s", "80 ms"."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms" if seconds else "0 s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days:,} d {hours} h" if hours else f"{days:,} d"


def format_size(size: float) -> str:
    """Return a size in bytes with a binary unit: "4.2 MiB"."""
    if size < 1024:
        return f"{size:.0f} B"
    units = ("KiB", "MiB", "GiB", "TiB")
    power = next((power for power in (1, 2, 3) if size / 1024**power < 1023.95), 4)
    return f"{size / 1024**power:,.1f} {units[power - 1]}"


def format_number(value: float) -> str:
    """Return a metric with four significant digits."""
    return f"{value:.4g}"
