"""`keepfit plan --run`: the replay of one's own attempts, from their journals."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keepfit.callbacks.checkpoint.format.keys import journal_key
from keepfit.callbacks.engine.save_interval import format_duration
from keepfit.callbacks.journal.terms import Reason
from keepfit.callbacks.storage import open_store
from keepfit.job.planning.lifetimes import RECORDED, read_lifetimes
from keepfit.job.planning.own_lives import own_lives
from keepfit.job.planning.plan import FIXED
from keepfit.job.planning.replay import Conditions, LifeEnd
from keepfit.job.planning.run_plan import make_run_plan
from tests.checkpoint.samples import take_over
from tests.job.conftest import keepfit, refused
from tests.job.simulated_runs import Costs, Ended, simulate

OTHERS = (3600.0, 600.0)
KILLED, PREEMPTED, FAILED = Reason.KILLED, Reason.PREEMPTED, Reason.FAILED
LIVES = [
    Ended(1500.0, PREEMPTED),
    Ended(700.0, KILLED),
    Ended(900.0, FAILED),
    Ended(800.0, KILLED, watched=False),
    Ended(28.0, KILLED),
    Ended(2000.0, Reason.FINISHED),
]


def plan_of(*runs):
    """Return the simulated runs, each given by its lives and costs, and the plan of them."""
    simulated = [simulate(f"run{number}", *run) for number, run in enumerate(runs)]
    own = own_lives([run.journals for run in simulated])
    save, stall = (own.costs.save, own.costs.stall) if own.costs else (1.0, 0.1)
    conditions = Conditions(save, stall, own.restart or 30.0, notices=True)
    return simulated, make_run_plan(["run"], own, OTHERS, conditions)


ENDS = st.sampled_from([KILLED, KILLED, PREEMPTED, FAILED, Reason.FINISHED])
LIFE = st.builds(Ended, st.floats(26, 3000), ENDS, st.booleans())
COSTS = st.builds(
    Costs,
    batch=st.floats(0.25, 20),
    every=st.floats(10, 600),
    save=st.floats(0.5, 60),
    stall=st.floats(0, 0.5),
    startup=st.floats(1, 20),
    tail=st.floats(0, 5),
)


@settings(max_examples=40, deadline=None)
@given(
    runs=st.lists(st.tuples(st.lists(LIFE, min_size=1, max_size=3), COSTS), min_size=1, max_size=2)
)
@example(
    runs=[
        (
            [Ended(26.0, KILLED, watched=False), Ended(2364.75, PREEMPTED, watched=False)],
            Costs(batch=19.876953125, every=41.0, save=1.0, stall=0.296875, startup=2.5, tail=0.0),
        )
    ]
)  # the last save stalls beyond the end
@example(
    runs=[
        (
            [Ended(340.0, KILLED, watched=False), Ended(60.0, Reason.FINISHED)],
            Costs(every=135.0, startup=10.0),
        ),
        ([Ended(6000.0, PREEMPTED)], Costs(every=300.0)),
    ]
)  # the journals lose nothing, and the replay nearly a whole interval
def test_own_interval_reproduces_own_share(runs):
    """The measured share is that of the simulation; the replay differs by at most the error."""
    simulated, plan = plan_of(*runs)
    measured = plan.own.useful_share
    seconds = sum(run.seconds for run in simulated)
    assert plan.own.seconds == pytest.approx(seconds)
    if all(lives[-1].reason is not KILLED for lives, _ in runs):  # else it may still run
        assert measured == pytest.approx(sum(run.useful for run in simulated) / seconds)
    if plan.interval is not None:
        own = plan.scenarios["as_it_was"].own
        assert abs(own - measured) <= plan.error + 1e-9
    for scenario in plan.scenarios.values():
        assert all(0 <= share <= 1 for share in (scenario.auto, *scenario.fixed.values()))


def test_the_error_is_small():
    """For saves of 4 s a minute, it is below 5 points, and the replay within 2."""
    _, plan = plan_of((LIVES, Costs()))
    assert plan.interval == pytest.approx(60, abs=1)
    assert plan.error < 0.05
    assert plan.scenarios["as_it_was"].own == pytest.approx(plan.own.useful_share, abs=0.02)


def test_lives_of_a_run():
    """Each end of an attempt is read as what it is."""
    _, plan = plan_of((LIVES, Costs()))
    found = [(one.life.end, one.ended_by_machine, one.lower_bound) for one in plan.own.lives]
    assert found == [
        (LifeEnd.WARNED, True, False),
        (LifeEnd.UNWARNED, True, False),
        (LifeEnd.UNWARNED, False, False),
        (LifeEnd.UNWARNED, True, True),
        (LifeEnd.UNWARNED, True, False),
        (LifeEnd.COMPLETE, False, False),
    ]
    lives = [one.life for one in plan.own.lives]
    assert [life.seconds for life in lives] == pytest.approx([1500, 700, 900, 764.2, 28, 2000])
    assert lives[4].restart == lives[4].seconds, "it has ended before its first save"


def test_what_notices_would_give():
    """They help attempts that were killed, and no script that fails."""
    finished = [Ended(1000.0, Reason.FINISHED)]
    _, plan = plan_of(([Ended(1000.0, KILLED)] * 5 + finished, Costs()))
    as_it_was, warned, unwarned = list(plan.scenarios.values())[:3]
    assert as_it_was == type(as_it_was)(**{**vars(unwarned), "title": "as it was"})
    assert all(warned.fixed[every] > unwarned.fixed[every] for every in (300.0, 600.0))
    _, failing = plan_of(([Ended(1000.0, FAILED)] * 5 + finished, Costs()))
    scenarios = failing.scenarios
    assert scenarios["with_notices"].fixed == scenarios["as_it_was"].fixed


def test_what_an_interval_would_give():
    """With a hundred attempts that are killed after 1000 s, an hour keeps the early save only."""
    _, plan = plan_of(([*[Ended(1000.0, KILLED)] * 100, Ended(28.0, KILLED)], Costs()))
    shares = plan.scenarios["as_it_was"].fixed
    assert shares[3600.0] == pytest.approx(10 / 1000, abs=0.002)
    assert shares[60.0] > 0.85


def test_saves_that_are_left_out():
    """A journal that has left out every second save gives the same interval."""
    (journal,) = simulate("run", [Ended(3000.0, KILLED)], Costs()).journals
    assert len(journal.saves) > 40
    thinned = journal.model_copy(update={"saves": (*journal.saves[:-5:2], *journal.saves[-5:])})
    whole, rest = own_lives([[journal]]), own_lives([[thinned]])
    assert vars(rest.costs) == pytest.approx(vars(whole.costs))
    assert rest.useful_share == whole.useful_share


def test_a_run_without_saves():
    """Without one, the time of a save is not known: nothing is made up."""
    own = own_lives([simulate("run", [Ended(28.0, KILLED)] * 3, Costs()).journals])
    assert (own.costs, own.restart, own.useful_share) == (None, None, 0.0)


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store with the run `mine`, whose second attempt has no journal."""
    uri = f"file://{tmp_path}/runs"
    monkeypatch.setenv("KEEPFIT_STORE", uri)
    opened = open_store(uri)
    for _ in LIVES:
        take_over(opened, run="mine")
    for journal in simulate("mine", LIVES, Costs()).journals:
        if journal.attempt != 2:
            opened.put(journal_key("mine", journal.attempt), [journal.to_bytes()])
    return opened


def test_plan_of_a_run_as_text(store):
    """A row for the run's own interval, auto and each fixed one; a column for each scenario."""
    printed = keepfit("plan", "--run", "mine").stdout
    lines = printed.splitlines()
    assert lines[0].startswith("mine: 5 attempts")
    assert "no journal that can be read: 1" in printed
    rows = [line for line in lines if line.count("%") == 5]
    own, *others = [re.match(r" *(.*?) +[0-9.]+%", line)[1] for line in rows]
    assert own == "own"
    assert others == ["auto", *map(format_duration, FIXED)]
    assert rows[1].count("█") > rows[-1].count("█")
    assert "of 322 other" in printed


def test_plan_of_a_run_as_json(store):
    """The same as JSON; other lifetimes, and other costs of a save."""
    plan = json.loads(keepfit("plan", "--run", "mine", "--json").stdout)
    assert plan["runs"] == ["mine"]
    assert plan["left_out"] == 1
    assert plan["lives"]["count"] == 5
    assert plan["others"] == len(read_lifetimes(RECORDED))
    assert abs(plan["scenarios"]["as_it_was"]["own"] - plan["measured"]) <= plan["error"]
    assert plan["conditions"]["save"] == 4
    options = ["--save-cost", "1s", "--stall", "0", "--restart", "9s"]
    other = json.loads(keepfit("plan", "--run", "mine", *options, "--json").stdout)
    assert other["conditions"] == {"save": 1, "stall": 0, "restart": 9}


def test_plan_of_runs_refuses(store):
    """One line says why: no journals, no such run, an option without effect, no save."""
    take_over(store, run="old")
    assert "run 'old' has no journal" in refused("plan", "--run", "mine", "--run", "old", code=2)
    assert "no run 'other'" in refused("plan", "--run", "other", code=2)
    assert "--no-notices" in refused("plan", "--run", "mine", "--no-notices", code=2)
    assert "--save-cost" in refused("plan", code=2)
    take_over(store, run="short")
    (journal,) = simulate("short", [Ended(28.0, KILLED)], Costs()).journals
    store.put(journal_key("short", 1), [journal.to_bytes()])
    assert "the runs have no saves" in refused("plan", "--run", "short", code=2)
    keepfit("plan", "--run", "short", "--save-cost", "4s")
