"""Goodput as one line for people: "goodput 97.8 %: 1.1 % start-up, 0.6 % trained again; $0.41"."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from keepfit.callbacks.journal.goodput import Costs, Goodput, Parts

LABELS: Final[Mapping[str, str]] = {
    "productive": "goodput",
    "validation": "validation",
    "startup": "start-up",
    "restore": "restore",
    "saving": "saves",
    "other": "other work",
    "retrained": "trained again",
    "unknown": "unknown",
    "waiting": "waiting",
}
"""The parts as people read them, by their names."""

SMALLEST: Final = 0.0005
"""Smallest share of a part that is shown: 0.05 %."""


def describe(goodput: Goodput) -> str:
    """Return one line: goodput in percent of the time, the other parts by size, and the costs.

    The percentages add up to 100. Costs are left out if no price is known.
    """
    tenths = rounded_shares(goodput.parts)
    if not tenths:
        return "goodput unknown: no time is recorded"
    causes = sorted(((n, name) for name, n in tenths.items() if name != "productive"), reverse=True)
    shown = ", ".join(f"{n / 10:.1f} % {LABELS[name]}" for n, name in causes)
    line = f"goodput {tenths['productive'] / 10:.1f} %"
    costs = describe_costs(goodput.costs, len(goodput.attempts))
    return line + (f": {shown}" if shown else "") + (f"; {costs}" if costs else "")


def rounded_shares(parts: Parts) -> dict[str, int]:
    """Return the parts in tenths of a percent that add up to 1000: largest-remainder rounding.

    Parts under SMALLEST are left out, except the productive one. The result is empty if there is no
    time.
    """
    shares = {
        name: share
        for name, share in parts.shares().items()
        if share >= SMALLEST or name == "productive"
    }
    whole = math.fsum(shares.values())
    if not whole:
        return {}
    exact = {name: share / whole * 1000 for name, share in shares.items()}
    tenths = {name: math.floor(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: exact[name] - tenths[name], reverse=True)
    for name in by_remainder[: 1000 - sum(tenths.values())]:
        tenths[name] += 1
    return tenths


def describe_costs(costs: Costs, attempts: int) -> str:
    """Return the costs as text; an empty text if no price is known."""
    if costs.paid is None:
        return ""
    priced = attempts - costs.unpriced
    partly = f" for {priced} of {attempts} attempts" if costs.unpriced else ""
    compared = "" if costs.on_demand is None else f", on demand {dollars(costs.on_demand)}"
    return f"{dollars(costs.paid)}{partly}{compared}"


def dollars(amount: float) -> str:
    """Return an amount in cents; less than half a cent is no zero."""
    return "under $0.01" if 0 < amount < 0.005 else f"${amount:,.2f}"
