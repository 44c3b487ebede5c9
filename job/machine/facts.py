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
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        prices: PriceSettings,
        *,
        host: str = "",
        pauses: tuple[float, ...] = PAUSES,
    ) -> None:
        self._prices = prices
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

    def start(self) -> None:
        """Start to collect."""
        self._thread.start()

    def stop(self) -> None:
        """Stop collecting, without waiting: a request may still take up to two seconds."""
        self._stopped.set()

    def _collect(self) -> None:
        waiting = self._sources
        for pause in (*self._pauses, None):
            waiting = [source for source in waiting if not self._ask(source)]
            if not waiting or pause is None or self._stopped.wait(pause):
                return

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
    environment: Mapping[str, str], prices: PriceSettings
) -> Iterator[Callable[[], Machine]]:
    """Collect facts until the block ends; yield a function that returns those known by now."""
    facts = MachineFacts(environment, prices)
    facts.start()
    try:
        yield facts.current
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
