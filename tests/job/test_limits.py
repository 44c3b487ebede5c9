"""The limits of a run: counted over simulated journals, refused where they can't be counted."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from keepfit.callbacks.engine.session import Session
from keepfit.callbacks.errors import ConfigurationError, LimitReached, Refused
from keepfit.callbacks.journal.document import Machine
from keepfit.callbacks.journal.terms import ProcessEnd, Reason
from keepfit.callbacks.journal.time_account import ProcessStart
from keepfit.callbacks.journal.usage import Limits
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.runner_settings import LimitSettings
from keepfit.callbacks.settings import Settings
from keepfit.callbacks.storage import open_store
from keepfit.job.commands.batch.submission.variables import limit_variables
from keepfit.job.commands.usage import price_of_machine, usage_rules
from keepfit.job.notices.limit import LimitRequest, LimitWatcher, unchanged
from keepfit.job.runner import no_limits
from tests.job.conftest import refused
from tests.journal.factory import RUN, journal, moment, write

# Start-up takes 3 s and a step 0.1 s, so an attempt of 100 steps takes 13 s.
PREEMPTED = {"reason": Reason.PREEMPTED}
HOUR = 3600


def head(attempt=1, first=1):
    """Return what the limits use of a HEAD."""
    return SimpleNamespace(attempt=attempt, first_attempt=first)


def no_price(seconds):
    return Machine(), "AWS refuses to tell it"


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def store(tmp_path):
    return open_store(f"file://{tmp_path}")


def watcher(store, limits, *, hourly=None, price=no_price, history=unchanged, session=None):
    """Return a watcher in a process that has run for a second."""
    request = LimitRequest(limits, hourly, store.uri, RUN)
    start, clock = ProcessStart(99.0, datetime(2026, 11, 28, tzinfo=UTC)), Clock()
    return LimitWatcher(request, session or Session(), price, history, start=start, clock=clock)


def test_a_new_run_is_admitted(store):
    """There is nothing to count, and nothing is read."""
    found = watcher(store, Limits(max_hours=1))
    found.admit(store, RUN, None)
    found.stop()


def test_a_run_beyond_its_hours_ends_before_training(store):
    """One line names the limit, the used hours and the way out; other runs are not counted."""
    write(store, journal(1, **PREEMPTED), journal(2, started=60, resumed=100, **PREEMPTED))
    write(store, journal(1, run="other", **PREEMPTED))
    found = watcher(store, Limits(max_hours=15 / HOUR))
    found.start()
    with capture_logs() as logs, pytest.raises(LimitReached) as ended:
        found.admit(store, RUN, head(2))
    assert ended.value.code == 79
    (line,) = logs
    assert line["event"] == "limit_reached"
    assert line["limit"] == "--max-hours 0.00416667"
    assert line["used"] == "0.0047 h of 0.00416667 h, in 3 attempts"
    assert "keepfit submit --resume --max-hours N" in line["fix"]
    found = watcher(store, Limits(max_hours=15 / HOUR))
    found.start()
    found.admit(store, "other", head(1))  # which was not read ahead
    found.stop()


def test_attempts_before_a_fresh_start_are_not_counted(store):
    """--fresh has moved that run aside; its journals may still be there."""
    write(store, journal(1, **PREEMPTED), journal(2, started=60, **PREEMPTED))
    found = watcher(store, Limits(max_hours=15 / HOUR))
    found.admit(store, RUN, head(2, first=2))
    found.stop()


def test_the_time_of_an_attempt_that_was_killed_under_restarts(store):
    """What the supervisor has seen of its end counts, though no journal says so yet."""
    write(store, journal(1, kill=True))
    session = Session()
    session.previous = ProcessEnd(moment(0), moment(50), Reason.KILLED)
    limits = Limits(max_hours=40 / HOUR)
    found = watcher(store, limits)
    found.admit(store, RUN, head(1))
    found.stop()
    with capture_logs(), pytest.raises(LimitReached):
        watcher(store, limits, session=session).admit(store, RUN, head(1))


@pytest.mark.parametrize(
    ("hourly", "price", "known", "reason"),
    [
        (None, no_price, (0.36, None), "the price of this machine is not known: AWS refuses"),
        (None, 0.36, (0.36, None), "machine of attempt 2 is not known"),
        (None, 0.36, (None, None), "machine of attempts 1, 2 is not known"),
        (None, 0.36, (0.36, 0.36), None),
        (0.36, no_price, (None, None), None),
    ],
)
def test_a_cost_is_counted_or_refused(store, hourly, price, known, reason):
    """No price is guessed: one that is missing refuses, unless the user has given one."""
    write(
        store,
        journal(1, price=known[0], **PREEMPTED),
        journal(2, started=60, resumed=100, price=known[1], **PREEMPTED),
    )

    def of_machine(seconds):
        return Machine(hourly_price=price), ""

    given = price if callable(price) else of_machine
    found = watcher(store, Limits(max_cost=1), hourly=hourly, price=given)
    with capture_logs() as logs:
        if reason:
            with pytest.raises(Refused):
                found.admit(store, RUN, head(2))
            (line,) = logs
            assert reason in line["reason"]
            assert "--hourly-price" in line["fix"]
        else:
            found.admit(store, RUN, head(2))
            assert logs == []
    found.stop()


def test_prices_of_earlier_machines_are_asked_for(store):
    """By the machines that the journals name, where the user has given no price."""
    write(store, journal(1, **PREEMPTED))

    def history(found):
        priced = Machine(hourly_price=3600.0)
        journals = tuple(j.model_copy(update={"machine": priced}) for j in found.journals)
        return type(found)(journals)

    found = watcher(
        store, Limits(max_cost=10), history=history, price=lambda _: (Machine(hourly_price=1.0), "")
    )
    with capture_logs() as logs, pytest.raises(LimitReached):
        found.admit(store, RUN, head(1))
    assert logs[0]["used"] == "$13.00 of $10, in 2 attempts"


def test_the_notice_comes_when_the_limit_is_reached(store):
    """Training is asked to end at its next batch, by the existing machinery of notices."""
    session = Session()
    given = threading.Event()
    append = session.preemption.give_notice

    def give_notice(notice):
        append(notice)
        given.set()

    session.preemption.give_notice = give_notice
    found = watcher(store, Limits(max_hours=1.05 / HOUR), session=session)  # 0.05 s are left
    with capture_logs() as logs:
        found.admit(store, RUN, None)
        assert session.preemption.notice is None
        found._clock.now += 1
        assert given.wait(10)
        found.report_end()
    assert session.preemption.notice.limit
    assert not session.preemption.ends_process
    reached = next(line for line in logs if line["event"] == "limit_reached")
    assert (reached["saved"], reached["lost"], reached["run"]) == (True, 0, RUN)


def test_without_limits_nothing_is_read_or_started(monkeypatch):
    """A run without limits pays nothing for them: what counts them is not even imported."""
    for name in ("KEEPFIT_MAX_HOURS", "KEEPFIT_MAX_COST"):
        monkeypatch.delenv(name, raising=False)
    settings = Settings.resolve(store="file:///none", run=RUN)
    rules = usage_rules(settings)
    assert (rules.watch, rules.needs_price) == (no_limits, False)
    monkeypatch.setenv("KEEPFIT_MAX_COST", "2")
    limited = usage_rules(settings)
    assert limited.needs_price
    session = Session()
    before = session.admit
    with limited.watch(session, no_price) as found:
        assert session.admit == found.admit != before


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "two", "1e7"])
@pytest.mark.parametrize("name", ["max_hours", "max_cost"])
def test_what_is_no_limit_is_refused(name, value):
    """The line names the option, the values that it may have, and what was given."""
    with pytest.raises(ConfigurationError, match=f"{name} must be a number .* above 0"):
        LimitSettings.resolve(**{name: value})


def test_a_job_gets_the_limits_of_submit(monkeypatch):
    """Those of the options, of --env, of this process; one that is no limit is refused."""
    assert limit_variables(None, None, {}) == {}
    monkeypatch.setenv("KEEPFIT_MAX_COST", "7")
    found = limit_variables("2.5", None, {"KEEPFIT_MAX_HOURS": "9"})
    assert found == {"KEEPFIT_MAX_HOURS": "2.5", "KEEPFIT_MAX_COST": "7"}
    assert limit_variables(None, "3", {"KEEPFIT_MAX_HOURS": "9"}) == {
        "KEEPFIT_MAX_HOURS": "9",
        "KEEPFIT_MAX_COST": "3",
    }


@pytest.mark.parametrize("command", ["run", "submit"])
def test_a_wrong_limit_is_refused_at_once(script, command, monkeypatch):
    """Before TensorFlow is imported, and before anything is created."""
    monkeypatch.setenv("KEEPFIT_MAX_HOURS", "")  # `run` sets the variable of this process
    assert "max_hours must be a number" in refused(command, "--max-hours", "-3", script, code=2)


def test_an_attempt_asks_aws_for_its_price(aws):
    """moto has one Spot price for all types, and no price list."""
    machine = Machine(
        instance_type="m5.large", zone="us-east-1a", region="us-east-1", price_class="spot"
    )
    (first, _), (both, gap) = price_of_machine(machine)
    assert first.hourly_price == pytest.approx(0.00001)
    assert (both.hourly_price, both.on_demand_price) == (first.hourly_price, None)
    assert "price" in gap
    assert list(price_of_machine(Machine(host="laptop"))) == []
