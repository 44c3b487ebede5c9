"""Which fit of a run a call of `fit` is: by its name, else by what it asks for.

A resumed script may repeat all its fits, skip those that it has finished, or ask for them in
another order. So a call is compared with the fits of the run that this process has not begun, and
is a new fit if it equals none. Equal fits are told apart by the optimizer's count of steps at their
start, else by their order, which is ambiguous: a script that skips fits would get the wrong one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

from keepfit.callbacks.checkpoint.format.fit_record import FitRecord
from keepfit.callbacks.checkpoint.format.manifest import Manifest
from keepfit.callbacks.checkpoint.format.state_schema import StateSchema


class MatchedBy(Enum):
    """Why a call of `fit` is taken for a fit of the run."""

    NOTHING = auto()
    """It is a new fit."""
    EQUAL = auto()
    """It has the same name, or asks for the same training."""
    ORDER = auto()
    """It is one of several fits that ask for the same training."""
    NUMBER = auto()
    """The run was begun by keepfit 0.1, which counted the calls of `fit`."""
    CHANGED = auto()
    """It is the only fit of the run, was interrupted, and now asks for something else."""


@dataclass(frozen=True)
class FitMatch:
    """The fit of the run that a call of `fit` is.

    Attributes:
        index: the fit's number in the run.
        by: why it is this fit.
        ambiguous: it may be another fit of the run: nothing but the order tells them apart, or a
            part of the input of a finished fit can't be compared.
    """

    index: int
    by: MatchedBy
    ambiguous: bool = False

    @property
    def is_new(self) -> bool:
        """True if the run has no such fit yet."""
        return self.by is MatchedBy.NOTHING


class RequestedFit(Protocol):
    """A call of `fit` that asks for its place in a run."""

    @property
    def is_known(self) -> bool:
        """True once the identity is known as far as it can be."""

    @property
    def schema(self) -> StateSchema:
        """The schema of the states that the call can resume from."""

    def wait_until_known(self, given_up: Callable[[], bool]) -> None:
        """Wait until the identity is known or `given_up()` is true. Any thread may call it."""

    def record(self, *, complete: bool = True) -> FitRecord:
        """Return the identity of the call. Any thread may call it.

        Args:
            complete: wait for what is not known yet; otherwise it is left out.
        """

    def match(self, known: KnownFits) -> FitMatch:
        """Return the fit of the run that this call is."""

    def report_ambiguous(self, match: FitMatch, *, repeated: bool) -> None:
        """Report that nothing but the order tells this call from others.

        Args:
            repeated: an earlier call has been reported.

        Raises:
            Refused: the training has to be exact.
        """

    def compare(self, key: str, manifest: Manifest, record: FitRecord | None) -> None:
        """Compare the call with a checkpoint of the fit that it was matched with.

        Args:
            key: the key of the manifest.
            record: the fit's identity in the run; None if keepfit 0.1 has written it.

        Raises:
            Refused: they differ.
        """

    def wants_more(self, manifest: Manifest) -> bool:
        """Return whether the call asks a finished fit for more than it has done.

        Args:
            manifest: that of the fit's newest checkpoint.
        """

    def close(self) -> None:
        """Stop finding out the identity, or wait until it is known."""


@dataclass(frozen=True)
class KnownFits:
    """The fits of a run.

    Attributes:
        records: their identities by index; empty in a run of keepfit 0.1.
        finished: the indexes of the finished ones.
        begun: the indexes of those that this process has begun, in this order.
        by_number: the run was written by keepfit 0.1.
        script_changed: the script's file differs from that of the attempt before.
    """

    records: Mapping[int, FitRecord] = field(default_factory=dict)
    finished: Collection[int] = ()
    begun: Sequence[int] = ()
    by_number: bool = False
    script_changed: bool = False

    @property
    def next_index(self) -> int:
        """The index of a new fit."""
        return max((*self.records, *self.finished, *self.begun), default=-1) + 1


def is_same(known: FitRecord, asked: FitRecord) -> bool:
    """Return whether two fits ask for the same training, as far as both are known."""
    if known.name is not None or asked.name is not None:
        return known.name == asked.name
    pairs = ((known.model, asked.model), (known.data, asked.data))
    return known.site == asked.site and all(None in pair or pair[0] == pair[1] for pair in pairs)


def match_fit(asked: FitRecord, known: KnownFits, *, may_be_changed: bool = True) -> FitMatch:
    """Return the fit of the run that a call of `fit` is.

    Example:
        >>> fold = FitRecord(site="__main__:<module>#0", data="1" * 32)
        >>> match_fit(fold, KnownFits({0: fold}, finished=[0]))
        FitMatch(index=0, by=<MatchedBy.EQUAL: 2>, ambiguous=False)

    Args:
        asked: identity of the call.
        known: the fits of the run.
        may_be_changed: the call may be the interrupted one of a script that was changed since.
            False for a library, for example a tuner, which asks for other fits in each process.
    """
    if known.by_number:
        return FitMatch(len(known.begun), MatchedBy.NUMBER)
    equal = [index for index, record in known.records.items() if is_same(record, asked)]
    left = [index for index in sorted(equal) if _may_be(index, asked, known)]
    if left and len(equal) == 1:
        # A script that skips it asks for the next one, before anything tells that there is one.
        ambiguous = left[0] in known.finished and not _is_comparable(known.records[left[0]], asked)
        return FitMatch(left[0], MatchedBy.EQUAL, ambiguous)
    if left:
        return _told_apart(left, [known.records[index] for index in equal], asked, known)
    if may_be_changed and (index := _changed(asked, known)) is not None:
        return FitMatch(index, MatchedBy.CHANGED)
    ambiguous = any(_start_alike(known.records[index], asked) for index in equal)
    return FitMatch(known.next_index, MatchedBy.NOTHING, ambiguous)


def _may_be(index: int, asked: FitRecord, known: KnownFits) -> bool:
    """Return whether the call can be this fit, which asks for the same.

    A finished fit that began with another state of the optimizer is another one: the script has
    loaded the result of the finished one, and trains it further. An interrupted one may have been
    continued from a checkpoint of the script's own. A name decides in any case.
    """
    if index in known.begun:
        return False
    if index not in known.finished or asked.name is not None:
        return True
    return _start_alike(known.records[index], asked)


def _is_comparable(record: FitRecord, asked: FitRecord) -> bool:
    """Return whether equal identities mean equal fits: by name, or by the whole input."""
    whole = all(fit.data is not None and not fit.unknown for fit in (record, asked))
    return asked.name is not None or whole


def _start_alike(record: FitRecord, asked: FitRecord) -> bool:
    """Return whether both fits begin after the same number of optimizer steps, or it is unknown."""
    unknown = None in (record.iterations, asked.iterations)
    return unknown or record.iterations == asked.iterations


def _told_apart(
    left: Sequence[int], equal: Sequence[FitRecord], asked: FitRecord, known: KnownFits
) -> FitMatch:
    """Choose among several fits that ask for the same.

    Args:
        left: the indexes of those that the call can be.
        equal: all that ask for the same.
        asked: identity of the call.
    """
    counts = [record.iterations for record in equal]
    distinct = None not in counts and len(set(counts)) == len(counts)
    if asked.iterations is None or not distinct:
        return FitMatch(left[0], MatchedBy.ORDER, ambiguous=not distinct)
    for index in left:
        record = known.records[index]
        if record.iterations == asked.iterations:
            # Only fresh models have the count 0, and one of another fit may be among them.
            sure = record.iterations > 0 or record.weights == asked.weights
            return FitMatch(index, MatchedBy.EQUAL, ambiguous=not sure)
    return FitMatch(left[0], MatchedBy.ORDER, ambiguous=True)


def _changed(asked: FitRecord, known: KnownFits) -> int | None:
    """Return the only fit of the run, if it was interrupted and the call may be it, changed."""
    if len(known.records) != 1 or known.finished or known.begun:
        return None
    ((index, record),) = known.records.items()
    same_place = record.site == asked.site or known.script_changed
    return index if same_place and record.name == asked.name else None
