"""How far apart saves are with save_every="auto", and what a run remembers of its attempts."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from keepfit.callbacks.checkpoint.manifest import MAX_INTERRUPTIONS, MAX_SECONDS, AttemptHistory
from keepfit.callbacks.checkpoint.save_interval import (
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
from keepfit.callbacks.checkpoint.save_policy import (
    DecisionContext,
    SaveAutomatically,
    SaveEverySeconds,
    parse_save_policy,
)
from keepfit.callbacks.storage.local import LocalStore
from tests.checkpoint.samples import RUN, head_of, resume, snapshot, take_over

HOUR = 3600.0
KNOWN = st.builds(
    SaveMeasurements,
    cost=st.floats(0, 1e4),
    durable=st.none() | st.floats(0, 1e5),
    interruptions=st.integers(0, 10**6),
    lived=st.floats(0, 1e9),
    age=st.floats(0, 1e9),
)


@given(known=KNOWN)
def test_bounds(known):
    """Half a minute to 15 minutes, at most 2 percent, and never before the last one is durable."""
    seconds = interval_seconds(known)
    if known.durable is None:
        assert seconds == UNMEASURED_INTERVAL
        return
    assert max(SHORTEST_INTERVAL, known.durable) <= seconds <= max(LONGEST_INTERVAL, known.durable)
    if known.cost <= MAX_OVERHEAD * LONGEST_INTERVAL:
        assert known.cost <= MAX_OVERHEAD * seconds * (1 + 1e-9)
    else:
        assert seconds >= LONGEST_INTERVAL


@given(known=KNOWN)
def test_reason(known):
    """The interval in words is the same, and a single line that says how it came about."""
    interval = choose_interval(known)
    assert interval.seconds == interval_seconds(known)
    assert "\n" not in interval.reason
    if known.durable is None:
        assert "no save has succeeded" in interval.reason
    else:
        assert f"{known.interruptions} so far" in interval.reason
        assert interval.seconds == LONGEST_INTERVAL or "never further apart" not in interval.reason
        assert interval.seconds != SHORTEST_INTERVAL or "never closer" in interval.reason


@given(known=KNOWN, more=st.floats(0, 1e6), ends=st.integers(0, 100))
def test_what_moves_it(known, more, ends):
    """More ends never make it longer; a longer life, or costlier saves, never shorter."""
    facts = vars(known)
    now = interval_seconds(known)
    assert (
        interval_seconds(SaveMeasurements(**{**facts, "interruptions": known.interruptions + ends}))
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
    """Young's square root with Daly's terms; where saving costs more than it can keep, the mean."""
    assert daly_interval(cost, between) == pytest.approx(seconds, abs=0.01)


@given(cost=st.floats(0.01, 500), between=st.floats(60, 1e6))
def test_formula_is_best(cost, between):
    """No other interval loses notably less, by the exact expectation for random failures."""
    assume(cost < between / 4)

    def time_needed(seconds):
        return between * math.expm1(seconds / between) / (seconds - cost)

    best = daly_interval(cost, between)
    others = (best * 1.02**power for power in range(-150, 150))
    least = min(time_needed(other) for other in others if other > cost)
    assert time_needed(best) <= least * 1.002


@pytest.mark.parametrize(
    ("ends", "lived", "hours"),
    [(0, 0.0, 4.0), (1, 0.0, 2.0), (0, 4 * HOUR, 8.0), (3, 12 * HOUR, 4.0), (9, 6 * HOUR, 1.0)],
)
def test_what_is_expected(ends, lived, hours):
    """One end in four hours at first; what the run has seen counts as much as its hours."""
    assert mean_time_between_failures(
        SaveMeasurements(interruptions=ends, lived=lived)
    ) == pytest.approx(hours * HOUR)


def test_expectation_comes_to_what_is_so():
    """After many attempts that live half an hour, half an hour is expected."""
    found = mean_time_between_failures(SaveMeasurements(interruptions=1000, lived=1000 * 1800.0))
    assert found == pytest.approx(1800, rel=0.01)
    assert PRIOR_SECONDS / 1001 < 15


def test_young_machines_save_more_often():
    """In the first minutes the interval is well under half of what it is after an hour."""
    young = interval_seconds(SaveMeasurements(cost=0.2, durable=4.0, age=10))
    grown = interval_seconds(SaveMeasurements(cost=0.2, durable=4.0, age=HOUR))
    assert young < 0.42 * grown
    assert interval_seconds(SaveMeasurements(cost=0.2, durable=4.0, age=10 * HOUR)) == grown


@given(one=st.floats(0.1, 1e4), other=st.floats(0.1, 1e4))
def test_notable(one, other):
    """A change by more than a quarter, in either direction, is worth a line; the first one is."""
    first, second = SaveInterval(one, ""), SaveInterval(other, "")
    assert first.differs_from(None)
    assert first.differs_from(second) == second.differs_from(first)
    assert first.differs_from(second) == (max(one, other) > NOTABLE_RATIO * min(one, other))


def test_schedule():
    """The default's first save comes after ten seconds, the next when the rule says so."""
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
        assert auto.due(DecisionContext(passed, 1, 0, first, known)) is due
    assert auto.wait(known, first=False) == seconds
    assert SaveEverySeconds(5).wait(known, first=True) == 5


def test_a_killed_attempt_is_counted(tmp_path):
    """The next one knows how long it lived, by its own clock; one that said goodbye is no loss."""
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


def test_an_attempt_without_a_save_says_nothing(tmp_path):
    """A script with a mistake that is started ten times has not been interrupted ten times."""
    store = LocalStore(tmp_path)
    for _ in range(10):
        take_over(store)
    assert head_of(store, RUN).history == AttemptHistory()


def test_past_does_not_overflow():
    """What somebody has put into a bucket stays a number that can be reckoned with."""
    most = AttemptHistory(interruptions=MAX_INTERRUPTIONS, seconds=MAX_SECONDS, lived=MAX_SECONDS)
    assert most.of_next() == AttemptHistory(interruptions=MAX_INTERRUPTIONS, seconds=MAX_SECONDS)
    for wrong in ({"ends": 10**400}, {"seconds": math.inf}, {"lived": math.nan}, {"lived": -1}):
        with pytest.raises(ValueError, match="Input should be"):
            AttemptHistory(**wrong)


@given(
    attempts=st.lists(st.tuples(st.floats(0, 1e6), st.booleans()), max_size=20),
)
def test_past_adds_up(attempts):
    """However attempts end, each is counted once, with what it lived."""
    past = AttemptHistory()
    for lived, last in attempts:
        past = past.after_save(lived / 2, last=False).after_save(lived, last=last).of_next()
    counted = [(round(lived, 3), last) for lived, last in attempts]
    assert past.interruptions == sum(lived > 0 and not last for lived, last in counted)
    assert past.seconds == pytest.approx(sum(lived for lived, _ in counted))
    assert (past.lived, past.parted) == (0, False)
