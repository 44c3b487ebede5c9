"""The goodput of a run from the journals of its attempts."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings

from keepfit.callbacks.journal.document import Elapsed, Ending, Fit, Journal, Mark, Previous
from keepfit.callbacks.journal.goodput import Goodput, Parts, measure
from keepfit.callbacks.journal.terms import Reason
from tests.journal.factory import journal, killed_and_resumed, moment
from tests.journal.generated import Simulated, any_journals, simulated_runs

EXAMPLES = settings(max_examples=60, deadline=None, database=None)


def rounded(parts: Parts) -> dict[str, float]:
    """Return the parts that are not 0, without the errors of floats."""
    return {name: round(value, 6) for name, value in parts.seconds().items() if round(value, 6)}


def test_a_run_by_hand():
    """Killed 1 s after its last save and 7 s of unknown use, preempted, resumed, finished."""
    found = measure(killed_and_resumed())
    assert [rounded(attempt.parts) for attempt in found.attempts] == [
        {"startup": 3, "productive": 10, "retrained": 1, "unknown": 6},
        {"startup": 3, "restore": 1, "productive": 8, "saving": 0.2, "waiting": 4},
        {"startup": 3, "restore": 1, "productive": 12, "validation": 1.5, "waiting": 23.8},
    ]
    assert [(a.kept_steps, a.lost_steps) for a in found.attempts] == [(100, 10), (80, 0), (120, 0)]
    assert [(a.reason, a.end_known) for a in found.attempts] == [
        (Reason.KILLED, True),
        (Reason.PREEMPTED, True),
        (Reason.FINISHED, True),
    ]
    assert found.parts.total == pytest.approx(77.5)
    assert found.overlap == 0


def test_no_journals():
    """A run without journals has no goodput, and no part of it."""
    assert measure([]) == Goodput()
    assert Parts().shares()["productive"] == 0


@EXAMPLES
@given(any_journals())
def test_any_journals_add_up(journals: list[Journal]):
    """The parts are the time from the first start to the last moment, and what overlaps."""
    found = measure(journals)
    assert all(part >= 0 for one in found.attempts for part in one.parts.seconds().values())
    assert found.parts.total == pytest.approx(sum(a.parts.total for a in found.attempts))
    if journals:
        last = journals[-1]
        span = (last.process_started - journals[0].process_started).total_seconds()
        whole = span + (last.end or last.written).at
        assert found.parts.total - found.overlap == pytest.approx(whole, abs=1e-3)


@EXAMPLES
@given(simulated_runs())
def test_a_simulated_run(run: Simulated):
    """What is said to be kept or lost is so, and the difference to the truth is `unknown`."""
    found = measure(run.journals)
    parts = found.parts
    assert parts.total == pytest.approx(run.total)
    assert found.overlap == 0
    assert parts.productive <= run.kept + 1e-6
    assert run.kept <= parts.productive + parts.unknown + 1e-6
    assert parts.retrained <= run.lost + 1e-6
    assert run.lost <= parts.retrained + parts.unknown + 1e-6
    if all(one.end for one in run.journals) and all(one.save_count <= 5 for one in run.journals):
        assert parts.productive == pytest.approx(run.kept)
        assert parts.unknown == 0


def lost(*journals: Journal) -> list[tuple[int, dict[str, float]]]:
    """Return for each attempt its kept step, and its time that is no productive or start-up."""
    return [
        (
            one.kept_step,
            {n: s for n, s in rounded(one.parts).items() if n not in ("startup", "waiting")},
        )
        for one in measure(journals).attempts
    ]


def test_a_later_attempt_that_goes_far_back():
    """A checkpoint of the first attempt is used again: the second one has trained in vain."""
    (first, one), (second, two), _ = lost(
        journal(1, steps=100, reason=Reason.PREEMPTED),
        journal(2, started=60, resumed=100, steps=200, reason=Reason.PREEMPTED),
        journal(3, started=120, resumed=50, steps=200),
    )
    assert (first, one) == (50, {"productive": 5, "retrained": 5})
    assert (second, two) == (50, {"retrained": 10})


def test_training_after_the_last_save_of_an_error():
    """It is lost, also before another attempt has begun: the process is gone."""
    failed = journal(1, steps=110, kill=True)
    failed = failed.model_copy(
        update={"end": Ending(**failed.written.model_dump(), reason=Reason.FAILED)}
    )
    assert lost(failed) == [(100, {"productive": 10, "retrained": 1})]


def test_training_of_an_attempt_that_may_run():
    """It counts as kept until it is lost; the time after its last record is not counted."""
    running = journal(1, steps=110, kill=True)
    assert lost(running) == [(110, {"productive": 11})]
    (attempt,) = measure([running], running_at=moment(20)).attempts
    assert rounded(attempt.parts) == {"startup": 3, "productive": 11, "unknown": 6}
    assert not attempt.end_known
    (before,) = measure([running], running_at=moment(2)).attempts
    assert rounded(before.parts) == {"startup": 3, "productive": 11}


def test_a_resume_between_two_saves_that_are_known():
    """The time of a save that was thinned out is unknown, and none is made up."""
    thinned = journal(1, steps=40, save_every=10, kill=True)
    saves = tuple(save for save in thinned.saves if save.step != 20)
    thinned = thinned.model_copy(update={"saves": saves})
    (first, parts), _ = lost(thinned, journal(2, started=7, resumed=20, steps=40))
    assert (first, parts) == (20, {"productive": 1, "unknown": 2, "retrained": 1})


def test_a_commit_that_the_journal_has_not_seen():
    """The next attempt resumes beyond the last record: all that was recorded is kept."""
    first, _ = lost(
        journal(1, steps=100, kill=True), journal(2, started=20, resumed=120, steps=200)
    )
    assert first == (100, {"productive": 10, "unknown": 7})


def test_an_attempt_without_a_journal():
    """Its time and what it may have lost are unknown, though the attempt before it was killed."""
    found = measure(
        [journal(1, steps=110, kill=True), journal(3, started=60, resumed=500, steps=600)]
    )
    first, third = found.attempts
    assert rounded(first.parts) == {"startup": 3, "productive": 10, "unknown": 47}
    assert "waiting" not in rounded(third.parts)


@pytest.mark.parametrize("previous", [None, Previous(attempt=1, ended=moment(15))])
def test_the_time_of_an_attempt_without_a_journal(previous: Previous | None):
    """It is not waiting, also when the end of the attempt before it is known."""
    third = journal(3, started=60, resumed=100, steps=200, previous=previous)
    for first in (journal(1, reason=Reason.PREEMPTED), journal(1, kill=True)):
        found = measure([first, third])
        assert found.parts.waiting == 0
        assert found.parts.unknown == pytest.approx(47)


def test_two_saves_of_one_step():
    """The attempt after them continues the newer one: validation before that is kept."""
    saved = journal(1, steps=50, validation=2, reason=Reason.PREEMPTED)
    (save,) = saved.saves[-1:]
    after = save.model_copy(update=saved.written.model_dump() | {"elapsed": saved.written.elapsed})
    saved = saved.model_copy(update={"saves": (*saved.saves, after)})
    (_, parts), _ = lost(saved, journal(2, started=60, resumed=50, steps=100))
    assert parts == {"productive": 5, "validation": 2}


def test_nothing_is_known_of_what_a_killed_attempt_has_lost_before_another_trains():
    """The second attempt was killed during its imports: no step tells what is left of the first."""
    imports = journal(2, started=30, steps=0, startup=2, kill=True).model_copy(update={"fits": ()})
    first, _ = lost(journal(1, steps=110, kill=True), imports)
    assert first == (100, {"productive": 10, "unknown": 17})


def test_several_fits():
    """A fit that begins after a finished one keeps the steps of that, though it does not resume."""
    elapsed = Elapsed(startup=3, training=10)
    second = journal(2, started=60, steps=150).model_copy(
        update={"fits": (Fit(fit=1, step=100, elapsed=elapsed),)}
    )
    (first, parts), _ = lost(journal(1, steps=110, save_every=100, kill=True), second)
    assert (first, parts["productive"]) == (100, 10)


def test_a_fit_that_starts_over():
    """A first fit that does not resume makes all before it lost."""
    first, _ = lost(
        journal(1, steps=100, reason=Reason.PREEMPTED), journal(2, started=60, steps=100)
    )
    assert first == (0, {"retrained": 10})


@pytest.mark.parametrize(
    ("ended", "unknown", "waiting"),
    [
        pytest.param(20, 6, 10, id="between the record and the next start"),
        pytest.param(10, 0, 16, id="before the record: its own clock counts"),
        pytest.param(45, 16, 0, id="after the next start, which has recorded it"),
    ],
)
def test_the_end_that_was_watched(ended: float, unknown: float, waiting: float):
    """The time from the last record to there is unknown; after it, the run has waited."""
    previous = Previous(attempt=1, ended=moment(ended))
    found = measure(
        [
            journal(1, steps=110, kill=True),
            journal(2, started=30, resumed=100, steps=200, previous=previous),
        ]
    )
    assert found.attempts[0].parts.unknown == pytest.approx(unknown)
    assert found.attempts[1].parts.waiting == pytest.approx(waiting)
    assert found.overlap == 0


@pytest.mark.parametrize(("started", "about"), [(0.02, True), (22, False)])
def test_the_end_of_a_process_that_has_claimed_nothing(started: float, about: bool):
    """A process between both attempts is told by its start; its end is not that of the first."""
    previous = Previous(
        attempt=1, started=moment(started), ended=moment(25), reason=Reason.KILLED, detail="SIGKILL"
    )
    second = journal(2, started=30, resumed=100, steps=200, previous=previous)
    first, _ = measure([journal(1, kill=True), second]).attempts
    assert (first.reason, first.end_known) == ((Reason.KILLED, True) if about else (None, False))
    assert first.parts.unknown == pytest.approx(12 if about else 17)


def test_clocks_that_disagree():
    """No part is negative: an attempt that begins before the end of the last one overlaps."""
    found = measure([journal(1, steps=100), journal(2, started=10, resumed=100, steps=200)])
    assert found.parts.waiting == 0
    assert found.overlap == pytest.approx(3)
    assert found.parts.total == pytest.approx(26)


def test_costs():
    """Recorded hours times prices; what has no price is counted and not guessed."""
    whole = {"startup": 0.0, "step_seconds": 36.0}
    costs = measure([journal(1, price=0.4, on_demand=1.2, **whole)]).costs
    assert (costs.paid, costs.on_demand) == (pytest.approx(0.4), pytest.approx(1.2))
    assert (costs.unpriced, costs.unended) == (0, 0)
    partly = measure(
        [
            journal(1, price=0.4, on_demand=1.2, kill=True, **whole),
            journal(2, started=4000, resumed=100, steps=200, price=0.4, **whole),
            journal(3, started=8000, resumed=200, steps=300, on_demand=1.2, **whole),
        ]
    ).costs
    assert partly.paid == pytest.approx(0.8)
    assert partly.on_demand is None  # it would not be for the same time
    assert (partly.unpriced, partly.unended) == (1, 1)
    assert measure([journal(1)]).costs.paid is None
    unpriced = journal(2, started=4000, resumed=100, steps=200, **whole)
    same_time = measure([journal(1, price=0.4, on_demand=1.2, **whole), unpriced]).costs
    assert same_time.on_demand == pytest.approx(1.2)


def test_a_journal_of_the_last_year():
    """No moment is beyond what Python's dates can hold."""
    last = journal(1).model_copy(update={"process_started": datetime.max.replace(tzinfo=UTC)})
    late = last.model_copy(update={"written": Mark(step=1, elapsed=Elapsed(training=1e10))})
    assert measure([journal(1), late.model_copy(update={"attempt": 2})]).parts.total > 1e10
