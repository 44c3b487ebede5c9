"""The identities of fits that HEAD does not record yet: some take long to compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from keepfit.callbacks.checkpoint.format.fit_record import FitRecord
from keepfit.callbacks.identity.fits import RequestedFit


class FitIdentities:
    """The requested fits whose identity is to be stored with the next commit.

    The writer's thread commits them; while it is busy, no other thread adds one.
    """

    def __init__(self) -> None:
        self.unrecorded: dict[int, RequestedFit] = {}

    def add(self, index: int, requested: RequestedFit) -> None:
        """Have the identity of a fit recorded."""
        self.unrecorded[index] = requested

    def records(self, recorded: Mapping[int, FitRecord]) -> dict[int, FitRecord]:
        """Return the identities, as far as they are known.

        Args:
            recorded: those that HEAD has of the same or other fits.
        """
        return {
            index: requested.record(complete=False).continuing(recorded.get(index))
            for index, requested in self.unrecorded.items()
        }

    def wait(self, given_up: Callable[[], bool]) -> None:
        """Wait until all are known, or `given_up` returns True."""
        for requested in self.unrecorded.values():
            requested.wait_until_known(given_up)

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Forget those that are wholly known now, if the block commits them."""
        known = [index for index, requested in self.unrecorded.items() if requested.is_known]
        yield
        for index in known:
            del self.unrecorded[index]

    def close(self) -> None:
        """Stop computing what is not known."""
        for requested in self.unrecorded.values():
            requested.close()
