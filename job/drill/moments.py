"""The moments of a training at which a drill interrupts it: values, and their choice."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from itertools import pairwise
from typing import Any, TypeVar

T = TypeVar("T")


class Hook(IntEnum):
    """The hooks at which a process can be interrupted, in the order of an epoch."""

    FIT_BEGIN = 0
    BATCH_END = 1
    VALIDATION_BATCH_END = 2
    EPOCH_END = 3


class Kind(StrEnum):
    """The kinds of interruptions, as the table names them."""

    FIRST_BATCH = "first batch"
    WITHIN_EPOCH = "within an epoch"
    LAST_BATCH = "last batch of an epoch"
    VALIDATION = "in validation"
    BETWEEN_EPOCHS = "between epochs"
    BETWEEN_FITS = "between fits"
    DURING_SAVE = "during a save"
    NOTICE = "Spot notice"


@dataclass(frozen=True, order=True)
class Place:
    """A place in a training; places are ordered as training reaches them.

    Attributes:
        fit, epoch, batch: indices from 0. A fit is counted within its process; a batch is the last
            one of a call of the train function. Zero where the hook has none.
    """

    fit: int
    epoch: int
    hook: Hook
    batch: int = 0

    def __str__(self) -> str:
        epoch = f"fit {self.fit + 1}, epoch {self.epoch + 1}"
        match self.hook:
            case Hook.FIT_BEGIN:
                return f"before fit {self.fit + 1}"
            case Hook.BATCH_END:
                return f"{epoch}, batch {self.batch + 1}"
            case Hook.VALIDATION_BATCH_END:
                return f"{epoch}, validation batch {self.batch + 1}"
            case Hook.EPOCH_END:
                return f"{epoch}, its end"

    def as_list(self) -> list[int]:
        """Return the place as a JSON value."""
        return [self.fit, self.epoch, int(self.hook), self.batch]

    @classmethod
    def of_list(cls, value: Sequence[int]) -> Place:
        """Return the place that `as_list` has written."""
        fit, epoch, hook, batch = value
        return cls(fit, epoch, Hook(hook), batch)


@dataclass(frozen=True)
class Moment:
    """An interruption at a place.

    For DURING_SAVE, the process is killed in the first save that is committed after the place.
    """

    kind: Kind
    place: Place

    def as_json(self) -> dict[str, Any]:
        """Return the moment as a JSON value."""
        return {"kind": self.kind.value, "place": self.place.as_list()}

    @classmethod
    def of_json(cls, value: dict[str, Any]) -> Moment:
        """Return the moment that `as_json` has written."""
        return cls(Kind(value["kind"]), Place.of_list(value["place"]))


@dataclass(frozen=True)
class EpochCourse:
    """One epoch of an uninterrupted run.

    Attributes:
        epoch: its index.
        batches, validation: the batches whose end Keras has reported.
        ended: `on_epoch_end` was called.
    """

    epoch: int
    batches: tuple[int, ...] = ()
    validation: tuple[int, ...] = ()
    ended: bool = True


@dataclass(frozen=True)
class Course:
    """The course of an uninterrupted run.

    Attributes:
        fits: the epochs of each fit.
        saves: number of checkpoints that it has committed while it trained.
        until: the place where it was ended; None if it has come to its own end.
    """

    fits: tuple[tuple[EpochCourse, ...], ...]
    saves: int = 0
    until: Place | None = None

    def epochs(self) -> Iterator[tuple[int, EpochCourse]]:
        """Yield each epoch with the index of its fit."""
        for fit, epochs in enumerate(self.fits):
            yield from ((fit, each) for each in epochs)

    def batches(self) -> list[Place]:
        """Return the end of each batch."""
        return [
            Place(fit, each.epoch, Hook.BATCH_END, batch)
            for fit, each in self.epochs()
            for batch in each.batches
        ]


@dataclass(frozen=True)
class Choice:
    """The moments of one drill.

    Attributes:
        moments: in the order in which training reaches them.
        missing: why there is no moment of a kind.
    """

    moments: tuple[Moment, ...]
    missing: dict[Kind, str]


def choose(course: Course, kinds: Collection[Kind] = tuple(Kind)) -> Choice:
    """Return one moment of each kind that the course has, spread over the training.

    All lie before the place where the course was ended, so that each attempt can reach it.
    """
    taken: set[Place] = set()
    moments, missing = [], {}
    for kind, (candidates, share, reason) in _KINDS.items():
        if kind not in kinds:
            continue
        found = [place for place in candidates(course) if _is_before_end(place, course)]
        place = pick(found, share, taken)
        if place is None:
            missing[kind] = reason
        else:
            taken.add(place)
            moments.append(Moment(kind, place))
    return Choice(tuple(sorted(moments, key=lambda moment: moment.place)), missing)


def pick(candidates: Sequence[Place], share: float, taken: set[Place]) -> Place | None:
    """Return a candidate near this share of the list, not a taken one unless all are."""
    if not candidates:
        return None
    at = min(int(len(candidates) * share), len(candidates) - 1)
    order = [*candidates[at:], *reversed(candidates[:at])]
    return next((place for place in order if place not in taken), candidates[at])


def _is_before_end(place: Place, course: Course) -> bool:
    return course.until is None or place < course.until


def _first_batches(course: Course) -> list[Place]:
    return course.batches()[:1]


def _middle_batches(course: Course) -> list[Place]:
    """Return the batch in the middle of each epoch that has a batch before and one after it."""
    return [
        Place(fit, each.epoch, Hook.BATCH_END, each.batches[len(each.batches) // 2])
        for fit, each in course.epochs()
        if len(each.batches) >= 3
    ]


def _last_batches(course: Course) -> list[Place]:
    return [
        Place(fit, each.epoch, Hook.BATCH_END, each.batches[-1])
        for fit, each in course.epochs()
        if each.batches and each.ended
    ]


def _validations(course: Course) -> list[Place]:
    return [
        Place(
            fit,
            each.epoch,
            Hook.VALIDATION_BATCH_END,
            each.validation[len(each.validation) // 2],
        )
        for fit, each in course.epochs()
        if each.validation
    ]


def _ends_of_epochs(course: Course) -> list[Place]:
    return [
        Place(fit, earlier.epoch, Hook.EPOCH_END)
        for fit, epochs in enumerate(course.fits)
        for earlier, _ in pairwise(epochs)
    ]


def _begins_of_fits(course: Course) -> list[Place]:
    return [Place(fit, 0, Hook.FIT_BEGIN) for fit in range(1, len(course.fits))]


def _batches_before_saves(course: Course) -> list[Place]:
    return course.batches() if course.saves else []


def _batches_with_a_next(course: Course) -> list[Place]:
    """Return the batches after which another one comes, at which a notice is acted on."""
    return course.batches()[:-1]


_KINDS: dict[Kind, tuple[Callable[[Course], list[Place]], float, str]] = {
    Kind.FIRST_BATCH: (_first_batches, 0.0, "the script trains no batch"),
    Kind.WITHIN_EPOCH: (_middle_batches, 0.3, "no epoch has three batches"),
    Kind.LAST_BATCH: (_last_batches, 0.5, "no epoch has come to its end"),
    Kind.VALIDATION: (_validations, 0.6, "no validation"),
    Kind.BETWEEN_EPOCHS: (_ends_of_epochs, 0.4, "no fit has two epochs"),
    Kind.BETWEEN_FITS: (_begins_of_fits, 0.5, "one fit"),
    Kind.DURING_SAVE: (_batches_before_saves, 0.2, "nothing was saved"),
    Kind.NOTICE: (_batches_with_a_next, 0.8, "no second batch"),
}
"""The candidates of each kind, the share of them before the one that is chosen, and the reason to
name if there is none."""
