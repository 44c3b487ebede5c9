"""The interval between saves with save_every="auto", and the history of a run's attempts."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from keepfit.callbacks.checkpoint.format.head import MAX_INTERRUPTIONS, MAX_SECONDS, AttemptHistory
from keepfit.callbacks.engine.save_interval import (
    LONGEST_INTERVAL,
    MAX_OVERHEAD,
    NOTABLE_RATIO,
    PRIOR_SECONDS,
    SHORTEST_INTERVAL,
    UNMEASURED_INTERVAL,
    SaveInterval,
    SaveMeasurements,
    choose_interval,
    daly_interval,
    interval_seconds,
    mean_time_between_failures,
)
from keepfit.callbacks.engine.save_policy import (
    DecisionContext,
    SaveAutomatically,
    SaveEverySeconds,
    parse_save_policy,
)
from keepfit.callbacks.storage.local import LocalStore
from tests.checkpoint.samples import RUN, head_of, resume, snapshot, take_over

HOUR = 3600.0
MEASUREMENTS = st.builds(
    SaveMeasurements,
    cost=st.floats(0, 1e4),
    durable=st.none() | st.floats(0, 1e5),
    interruptions=st.integers(0, 10**6),
    lived=st.floats(0, 1e9),
    age=st.floats(0, 1e9),
)


@given(known=MEASUREMENTS)
def test_bounds(known):
    """Between 30 s and 15 min, at most 2 percent, and not before the last save is durable."""
    seconds = interval_seconds(known)
    if known.durable is None:
        assert seconds == UNMEASURED_INTERVAL
        return
    assert max(SHORTEST_INTERVAL, known.durable) <= seconds <= max(LONGEST_INTERVAL, known.durable)
    if known.cost <= MAX_OVERHEAD * LONGEST_INTERVAL:
        assert known.cost <= MAX_OVERHEAD * seconds * (1 + 1e-9)
    else:
        assert seconds >= LONGEST_INTERVAL


@given(known=MEASUREMENTS)
def test_reason(known):
    """The reason belongs to the same interval, and explains it in one line."""
    interval = choose_interval(known)
    assert interval.seconds == interval_seconds(known)
    assert "\n" not in interval.reason
    if known.durable is None:
        assert "no save has succeeded" in interval.reason
    else:
        assert f"{known.interruptions} so far" in interval.reason
        assert interval.seconds == LONGEST_INTERVAL or "never further apart" not in interval.reason
        # The other limits may lie there too.
        said = ("never closer", "never more than", "before the last one is durable")
        assert interval.seconds != SHORTEST_INTERVAL or any(s in interval.reason for s in said)


@given(known=MEASUREMENTS, more=st.floats(0, 1e6), interruptions=st.integers(0, 100))
def test_interval_is_monotonic(known, more, interruptions):
    """More interruptions never make it longer; a longer life or costlier saves never shorter."""
    facts = vars(known)
    now = interval_seconds(known)
    assert (
        interval_seconds(
            SaveMeasurements(**{**facts, "interruptions": known.interruptions + interruptions})
        )
        <= now
    )
    assert interval_seconds(SaveMeasurements(**{**facts, "lived": known.lived + more})) >= now
    assert interval_seconds(SaveMeasurements(**{**facts, "age": known.age + more})) >= now
    assert interval_seconds(SaveMeasurements(**{**facts, "cost": known.cost + more})) >= now


@pytest.mark.parametrize(
    ("cost", "between", "seconds"),
    [
        (0.0, 1000.0, 0.0),
        (2.0, 10_000.0, 200.669),
        (0.5, 14_400.0, 120.167),
        (60.0, 5821.0, 856.254),
        (300.0, 100.0, 400.0),
    ],
)
def test_formula(cost, between, seconds):
    """Young's square root with Daly's terms; if saving costs more than it can keep, the mean."""
    assert daly_interval(cost, between) == pytest.approx(seconds, abs=0.01)


@given(cost=st.floats(0.01, 500), between=st.floats(60, 1e6))
def test_formula_is_optimal(cost, between):
    """No other interval loses notably less, by the exact expectation for random failures."""
    assume(cost < between / 4)

    def time_needed(seconds):
        return between * math.expm1(seconds / between) / (seconds - cost)

    best = daly_interval(cost, between)
    others = (best * 1.02**power for power in range(-150, 150))
    least = min(time_needed(other) for other in others if other > cost)
    assert time_needed(best) <= least * 1.002


@pytest.mark.parametrize(
    ("interruptions", "lived", "hours"),
    [(0, 0.0, 4.0), (1, 0.0, 2.0), (0, 4 * HOUR, 8.0), (3, 12 * HOUR, 4.0), (9, 6 * HOUR, 1.0)],
)
def test_mean_time_between_failures(interruptions, lived, hours):
    """One failure in four hours at first; observations are weighted by their hours."""
    assert mean_time_between_failures(
        SaveMeasurements(interruptions=interruptions, lived=lived)
    ) == pytest.approx(hours * HOUR)


def test_mean_time_between_failures_converges():
    """After many attempts of half an hour each, half an hour is expected."""
    found = mean_time_between_failures(SaveMeasurements(interruptions=1000, lived=1000 * 1800.0))
    assert found == pytest.approx(1800, rel=0.01)
    assert PRIOR_SECONDS / 1001 < 15


def test_young_machines_save_more_often():
    """In the first minutes the interval is well under half of the interval after an hour."""
    young = interval_seconds(SaveMeasurements(cost=0.2, durable=4.0, age=10))
    grown = interval_seconds(SaveMeasurements(cost=0.2, durable=4.0, age=HOUR))
    assert young < 0.42 * grown
    assert interval_seconds(SaveMeasurements(cost=0.2, durable=4.0, age=10 * HOUR)) == grown


@given(one=st.floats(0.1, 1e4), other=st.floats(0.1, 1e4))
def test_notable(one, other):
    """A change by more than a quarter, up or down, is notable; so is the first interval."""
    first, second = SaveInterval(one, ""), SaveInterval(other, "")
    assert first.differs_from(None)
    assert first.differs_from(second) == second.differs_from(first)
    assert first.differs_from(second) == (max(one, other) > NOTABLE_RATIO * min(one, other))


def test_automatic_policy():
    """The first automatic save is due after ten seconds, the next after the computed interval."""
    auto = parse_save_policy(" auto ")
    assert auto == SaveAutomatically()
    known = SaveMeasurements(cost=0.2, durable=4.0)
    seconds = interval_seconds(known)
    for passed, first, due in [
        (9.9, True, False),
        (10.0, True, True),
        (seconds - 0.1, False, False),
        (seconds, False, True),
    ]:
        assert auto.should_save(DecisionContext(passed, 1, 0, first, known)) is due
    assert auto.wait(known, first=False) == seconds
    assert SaveEverySeconds(5).wait(known, first=True) == 5


def test_a_killed_attempt_is_counted(tmp_path):
    """A killed attempt counts, with its duration by its own clock; not after a last save."""
    store = LocalStore(tmp_path)
    killed = take_over(store)
    assert killed.head.history == AttemptHistory()
    killed.commit(snapshot(1))
    killed.commit(snapshot(2))
    lived = head_of(store).history.lived
    assert 0 < lived <= killed.age + 0.001
    warned = take_over(store)
    assert warned.head.history == AttemptHistory(interruptions=1, seconds=lived)
    resume(store, warned)
    warned.commit(snapshot(3))
    warned.commit(snapshot(4), last=True)
    more = head_of(store).history.lived
    assert take_over(store).head.history == AttemptHistory(interruptions=1, seconds=lived + more)


def test_an_attempt_without_a_save_is_not_counted(tmp_path):
    """Ten starts of a script that fails at once do not count as ten interruptions."""
    store = LocalStore(tmp_path)
    for _ in range(10):
        take_over(store)
    assert head_of(store, RUN).history == AttemptHistory()


def test_history_does_not_overflow():
    """Values in a store, which anybody may have written, are bounded and finite."""
    most = AttemptHistory(interruptions=MAX_INTERRUPTIONS, seconds=MAX_SECONDS, lived=MAX_SECONDS)
    assert most.for_next_attempt() == AttemptHistory(
        interruptions=MAX_INTERRUPTIONS, seconds=MAX_SECONDS
    )
    for wrong in ({"ends": 10**400}, {"seconds": math.inf}, {"lived": math.nan}, {"lived": -1}):
        with pytest.raises(ValueError, match="Input should be"):
            AttemptHistory(**wrong)


@given(
    attempts=st.lists(st.tuples(st.floats(0, 1e6), st.booleans()), max_size=20),
)
def test_history_adds_up(attempts):
    """However attempts end, each is counted once, with its duration."""
    history = AttemptHistory()
    for lived, last in attempts:
        history = (
            history.after_save(lived / 2, last=False)
            .after_save(lived, last=last)
            .for_next_attempt()
        )
    counted = [(round(lived, 3), last) for lived, last in attempts]
    assert history.interruptions == sum(lived > 0 and not last for lived, last in counted)
    assert history.seconds == pytest.approx(sum(lived for lived, _ in counted))
    assert (history.lived, history.parted) == (0, False)
