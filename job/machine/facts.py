"""Collects facts about the machine on a thread of its own, while the attempt starts and trains."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from keepfit.callbacks.journal.terms import PriceClass
from keepfit.callbacks.runner_settings import PriceSettings
from keepfit.job.machine import sources
from keepfit.job.machine.sources import Facts
from keepfit.job.notices.imds import InstanceMetadata
from keepfit.job.notices.source import SourceUnavailable

if TYPE_CHECKING:
    from keepfit.callbacks.journal.document import Machine

PRICE_DELAY: Final = 30.0
"""Seconds after which AWS is asked for the price of the machine where no limit needs it: not while
the script starts, since boto3's clients take 0.3 s of the interpreter's time."""

PriceLookup = Callable[["Machine"], Iterator[tuple[PriceSettings, str]]]
"""Asks for the prices of a machine; yields those known by now, and why others are not."""

PriceFinder = Callable[[float], tuple["Machine", str]]
"""Returns the machine, with its price if that is known after so many seconds, and why it is not."""

PAUSES: Final = (5.0, 20.0)
"""Seconds after which a source that did not answer is asked again; then its facts stay unknown."""


class MachineFacts:
    """The facts about this machine that are known by now.

    The thread only reads, and nothing waits for it: an attempt neither starts nor ends later, and
    a notice is never delayed. It logs nothing: `machine_not_watched` reports an IMDS that does not
    answer.

    Args:
        environment: the variables of this process.
        host: the host name of this machine.
        lookup: asks for the price of the machine, if none is given.
        price_delay: seconds until it is asked.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        prices: PriceSettings,
        *,
        host: str = "",
        pauses: tuple[float, ...] = PAUSES,
        lookup: PriceLookup | None = None,
        price_delay: float = PRICE_DELAY,
    ) -> None:
        self._prices = prices
        self._lookup = lookup
        self._price_delay = price_delay
        self._price_gap = ""
        self._is_settled = threading.Event()
        self._pauses = pauses
        self._facts = sources.facts_of_environment(environment, host or socket.gethostname())
        self._stopped = threading.Event()
        self._sources = _sources_of(environment)
        self._thread = threading.Thread(target=self._collect, name="keepfit-machine", daemon=True)

    def current(self) -> Machine:
        """Return what is known by now. Any thread may call it."""
        from keepfit.callbacks.journal.document import Machine  # the library of journals is large

        machine = Machine.model_validate(sources.fitting(self._facts))
        return machine.model_copy(update=priced(machine, self._prices))

    def price_after(self, seconds: float) -> tuple[Machine, str]:
        """Return the machine when its price is known, or after so many seconds without it.

        Returns:
            The machine, and why its price is not known, if it is not.
        """
        machine = self.current()
        if machine.hourly_price is None and not self._is_settled.wait(seconds):
            return self.current(), f"AWS has not told it within {seconds:.0f} s"
        return self.current(), self._price_gap

    def start(self) -> None:
        """Start to collect."""
        self._thread.start()

    def stop(self) -> None:
        """Stop collecting, without waiting: a request may still take up to two seconds."""
        self._stopped.set()

    def _collect(self) -> None:
        try:
            self._ask_sources()
            self._find_price()
        finally:
            self._is_settled.set()

    def _ask_sources(self) -> None:
        waiting = self._sources
        for pause in (*self._pauses, None):
            waiting = [source for source in waiting if not self._ask(source)]
            if not waiting or pause is None or self._stopped.wait(pause):
                return

    def _find_price(self) -> None:
        """Ask for the price of the machine, unless it is given, or the machine is not known."""
        if self._lookup is None or self._prices.hourly_price is not None:
            return
        if self._stopped.wait(self._price_delay):
            return
        machine = self.current()
        if machine.hourly_price is not None:
            return
        if not (machine.instance_type and machine.price_class and machine.region):
            self._price_gap = "its metadata service does not tell which machine it is"
            return
        try:
            for found, gap in self._lookup(machine):
                self._price_gap = gap
                self._set_prices(found)
        except Exception as error:  # noqa: BLE001 # optional: no error of it ends anything
            self._price_gap = str(error) or repr(error)

    def _set_prices(self, found: PriceSettings) -> None:
        given = self._prices.on_demand_price
        self._prices = PriceSettings(
            hourly_price=found.hourly_price,
            on_demand_price=found.on_demand_price if given is None else given,
        )
        if found.hourly_price is not None:
            self._is_settled.set()

    def _ask(self, source: Callable[[], Iterator[Facts]]) -> bool:
        """Ask a source for its facts; return False if it is to be asked again."""
        try:
            for facts in source():
                if self._stopped.is_set():
                    return True
                # A region of IMDS is that of the machine; ECS has the same.
                self._facts = self._facts | facts
        except SourceUnavailable:
            return False
        return True


def priced(machine: Machine, prices: PriceSettings) -> dict[str, Any]:
    """Return the prices of a machine.

    A machine that is known to be on demand costs the on-demand price if no other one is given.
    """
    hourly = prices.hourly_price
    if hourly is None and machine.price_class is PriceClass.ON_DEMAND:
        hourly = prices.on_demand_price
    return {"hourly_price": hourly, "on_demand_price": prices.on_demand_price}


@contextmanager
def collecting_machine_facts(
    environment: Mapping[str, str],
    prices: PriceSettings,
    lookup: PriceLookup | None = None,
    *,
    price_delay: float = PRICE_DELAY,
) -> Iterator[MachineFacts]:
    """Collect facts until the block ends; yield those known by now. See MachineFacts."""
    facts = MachineFacts(environment, prices, lookup=lookup, price_delay=price_delay)
    facts.start()
    try:
        yield facts
    finally:
        facts.stop()


def _sources_of(environment: Mapping[str, str]) -> list[Callable[[], Iterator[Facts]]]:
    found: list[Callable[[], Iterator[Facts]]] = []
    address = environment.get(sources.ECS_VARIABLE)
    if address:
        found.append(lambda: sources.facts_of_ecs(address))
    imds = InstanceMetadata.from_environment(environment)
    if imds:
        found.append(lambda: sources.facts_of_imds(imds))
    return found
