"""The probable cause of a difference, by what differs first and by keepfit's own warnings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keepfit.callbacks import events
from keepfit.job.drill.compare.differences import Difference, states_differ
from keepfit.job.drill.compare.outcome import Outcome, Warned

_OF_FILES = frozenset(
    {
        events.ARTIFACT_FAILED,
        events.FILE_DELAYED,
        events.FILE_LOST,
        events.FILE_TOO_SHORT,
        events.SEND_FAILED,
        events.UPLOAD_FAILED,
        events.UPLOADS_UNFINISHED,
    }
)
"""Warnings that can only be the cause of a file's difference."""


@dataclass(frozen=True)
class Comparison:
    """Two runs that differ.

    Attributes:
        interrupted: one of them was; otherwise both have come to their end at once.
        deterministic: each operation gives the same bits in each run.
    """

    expected: Outcome
    found: Outcome
    differences: Sequence[Difference]
    interrupted: bool
    deterministic: bool

    @property
    def first(self) -> Difference:
        """The difference that training has made first."""
        return self.differences[0]


def probable_cause(comparison: Comparison) -> str:
    """Return what has probably caused the first difference, and what to do about it."""
    if comparison.interrupted:
        return _of_interrupted(comparison)
    return _of_uninterrupted(comparison)


def _of_interrupted(comparison: Comparison) -> str:
    if warnings := new_warnings(comparison):
        return "; ".join(_as_text(warned) for warned in warnings[:2])
    first = comparison.first
    if first.what == "files":
        return (
            "the script writes this file itself, or a callback writes it without a path that "
            "keepfit can see; it is written again, or continued, after an interruption"
        )
    if first.what == "output":
        return "the script prints something that is not kept: a counter of its own, or a time"
    return (
        "state in the process that keepfit does not know: a random generator of the script's own, "
        "a global variable that training changes, or a random operation of TensorFlow in the graph "
        "of the train step (use keras.random and layers of Keras); otherwise a fault of keepfit"
    )


def _of_uninterrupted(comparison: Comparison) -> str:
    if not comparison.deterministic:
        return (
            "operations may give other bits in each run, and generators have other seeds: leave "
            "--no-deterministic out, or call keras.utils.set_random_seed in the script"
        )
    first = comparison.first
    if first.what == "files":
        return (
            "the file contains a time, a random name or the order of a set, which differ in each "
            "run; leave it out with --ignore"
        )
    if first.what == "output":
        return "the script prints something that differs in each run, such as a duration or an id"
    fit = first.fit or 0
    variables, generators = states_differ(
        comparison.expected.starts.get(fit), comparison.found.starts.get(fit)
    )
    if generators:
        return (
            f"the random generators differ when the fit begins ({', '.join(generators)}): "
            "something before it draws a number of random numbers that differs in each run, or "
            "seeds them by time"
        )
    if variables:
        return (
            "the variables differ when the fit begins: they are initialised by a generator without "
            "a seed, or loaded from something that differs in each run"
        )
    return (
        "the input or a callback differs in each run: a generator without a seed "
        "(numpy.random.default_rng(), random.Random(), a seed taken from the time), threads whose "
        "order is not fixed, the order of a set, or data from the network"
    )


def new_warnings(comparison: Comparison) -> list[Warned]:
    """Return keepfit's warnings that may be the cause, first those of the interrupted run only."""
    before = set(comparison.expected.warnings)
    what = comparison.first.what
    given = [
        warned
        for warned in comparison.found.warnings
        if warned.reason and what != "output" and (what == "files" or warned.event not in _OF_FILES)
    ]
    return sorted(given, key=lambda warned: warned in before)


def _as_text(warned: Warned) -> str:
    fix = f" ({warned.fix})" if warned.fix else ""
    return f"{warned.reason}{fix} [{warned.event}]"
