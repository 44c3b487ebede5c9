"""The table of machines and what is missing, as `infra up` and `submit --dry-run` print them."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from keepfit.infra.preflight.capacity import Offer
from keepfit.infra.preflight.check import Preflight
from keepfit.infra.preflight.findings import Finding, Severity
from keepfit.job.commands.tables import add_row

_COLUMNS = ("machine", "vCPUs", "GiB", "GPUs", "zones", "Spot $/h", "on demand $/h", "saving")
_LABELS = {
    Severity.WARNING: "missing",
    Severity.SKIPPED: "not known",
}


def preflight_parts(found: Preflight) -> Iterator[Table | str]:
    """Yield the table of machines, the placement score, and what is missing or not known.

    What refuses the command is its last line, so it is not repeated here.
    """
    capacity, request = found.capacity, found.request
    if capacity.offers:
        yield (
            f"the smallest machines of {request.region} for a job of {request.job} "
            f"(larger ones, if several jobs run):"
        )
        yield _machines_table(capacity.offers, request.region)
    if capacity.score is not None:
        yield f"Spot placement score: {capacity.score} of 10 for all of these machines together"
    others = (one for one in found.findings if one.severity is not Severity.REFUSED)
    yield from map(_lines, others)


def _machines_table(offers: tuple[Offer, ...], region: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name in ("machine", "zones") else "right")
    for offer in sorted(offers, key=_by_price):
        size = offer.machine.size
        add_row(
            table,
            offer.machine.type,
            f"{size.vcpus:g}",
            f"{size.memory / 1024:g}",
            f"{size.gpus}" if size.gpus else "",
            " ".join(zone.removeprefix(region) for zone in offer.zones),
            _dollars(offer.spot),
            _dollars(offer.on_demand),
            "" if offer.saving is None else f"{offer.saving:.0%}",
        )
    return table


def _by_price(offer: Offer) -> tuple[bool, float, str]:
    """Sort by Spot price; machines without one come last."""
    return offer.spot is None, offer.spot or 0.0, offer.machine.type


def _dollars(price: float | None) -> str:
    return "" if price is None else f"{price:.4f}"


def _lines(finding: Finding) -> str:
    """Return the finding on one line, and the command that mends it on the next."""
    text = f"{_LABELS[finding.severity]}: {finding.thing}: {finding.reason}"
    return f"{text}\n  {finding.fix}" if finding.fix else text
