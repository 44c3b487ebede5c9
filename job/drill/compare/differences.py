"""The differences between two outcomes, in the order in which training has made them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest

from keepfit.job.drill.compare.outcome import Outcome
from keepfit.job.drill.compare.output import LINES
from keepfit.job.drill.traces import FitState

MOST_NAMES = 3
"""Names that a text mentions; the others are counted."""


@dataclass(frozen=True)
class Difference:
    """One difference.

    Attributes:
        what: "fits", "history", "variables", "files" or "output".
        names: the variables, metrics or files that differ.
        fit, epoch: indices; None for what belongs to no fit, or to all of it.
        detail: the values, or the part of a file.
    """

    what: str
    names: tuple[str, ...]
    fit: int | None = None
    epoch: int | None = None
    detail: str = ""

    def __str__(self) -> str:
        place = "" if self.fit is None else f"fit {self.fit + 1}, "
        place += "" if self.epoch is None else f"epoch {self.epoch + 1}, "
        detail = f" ({self.detail})" if self.detail else ""
        return f"{place}{self.what}: {listed(self.names)}{detail}"


def listed(names: tuple[str, ...]) -> str:
    """Return the first names, and the number of the others."""
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def differences(expected: Outcome, found: Outcome) -> list[Difference]:
    """Return the differences of two runs; none if they are identical."""
    return [
        *(each for fit in _fits(expected, found) for each in _of_fit(fit, expected, found)),
        *_of_files(expected, found),
        *_of_output(expected, found),
    ]


def states_differ(expected: FitState | None, found: FitState | None) -> tuple[bool, list[str]]:
    """Return whether the variables differ with which a fit begins, and the generators that do."""
    if expected is None or found is None:
        return False, []
    generators = changed(expected.generators, found.generators)
    return expected.variables != found.variables, generators


def changed(expected: Mapping[str, object], found: Mapping[str, object]) -> list[str]:
    """Return the names whose values differ, in the order of `expected`; missing ones included."""
    names = dict.fromkeys((*expected, *found))
    return [name for name in names if expected.get(name) != found.get(name)]


def _fits(expected: Outcome, found: Outcome) -> list[int]:
    return sorted({*expected.ends, *found.ends})


def _of_fit(fit: int, expected: Outcome, found: Outcome) -> Iterator[Difference]:
    wanted, actual = expected.ends.get(fit), found.ends.get(fit)
    if wanted is None or actual is None:
        detail = "one run has not come to its end" if wanted else "only one run has it"
        yield Difference("fits", (f"fit {fit + 1}",), fit, detail=detail)
        return
    yield from _of_history(wanted, actual)
    if names := changed(wanted.variables, actual.variables):
        total = len({*wanted.variables, *actual.variables})
        detail = f"{len(names)} of {total} variables at its end"
        yield Difference("variables", tuple(names), fit, detail=detail)


def _of_history(wanted: FitState, actual: FitState) -> Iterator[Difference]:
    """Yield the first epoch whose values differ."""
    fit = wanted.fit
    columns = {**wanted.history, **actual.history}
    rows = {
        name: list(zip_longest(wanted.history.get(name, []), actual.history.get(name, [])))
        for name in columns
    }
    first = {
        name: next(index for index, (a, b) in enumerate(pairs) if a != b)
        for name, pairs in rows.items()
        if any(a != b for a, b in pairs)
    }
    if first:
        row = min(first.values())
        names = tuple(name for name, index in first.items() if index == row)
        a, b = rows[names[0]][row]
        epochs = wanted.epochs or actual.epochs
        epoch = epochs[row] if row < len(epochs) else row
        yield Difference("history", names, fit, epoch, f"{_value(a)} became {_value(b)}")
    elif wanted.epochs != actual.epochs:
        detail = f"{len(wanted.epochs)} epochs became {len(actual.epochs)}"
        yield Difference("history", ("epochs",), fit, detail=detail)


def _value(value: str | None) -> str:
    return "none" if value is None else value


def _of_files(expected: Outcome, found: Outcome) -> Iterator[Difference]:
    for name in changed(expected.files, found.files):
        if name not in found.files:
            yield Difference("files", (name,), detail="missing")
        elif name not in expected.files:
            yield Difference("files", (name,), detail="an uninterrupted run does not write it")
        else:
            parts = changed(expected.files[name], found.files[name])
            detail = listed(tuple(parts)) if parts else "the order of its parts"
            yield Difference("files", (name,), detail=detail)


def _of_output(expected: Outcome, found: Outcome) -> Iterator[Difference]:
    """Yield the first line that is missing; a resumed attempt may print others beside them."""
    printed = iter(found.output)
    for wanted in expected.output[-LINES:]:
        if not any(line == wanted for line in printed):
            detail = f"missing, or in another order: {wanted!r}"
            yield Difference("output", ("standard output",), detail=detail)
            return
