"""The events of an attempt, observed through its session."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from keepfit.callbacks import events
from keepfit.callbacks.engine.run_progress import RunProgress, TrainingPosition
from keepfit.callbacks.errors import ConfigurationError
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.runner_settings import NotificationSettings
from keepfit.job.notifications.notification import AttemptEnd
from keepfit.job.notifications.notifier import AttemptNotifier
from tests.servers.webhook import webhook

NEVER = 3600.0
START = TrainingPosition(None, 0)


@dataclass
class Preemption:
    """The part of a PreemptionState that is observed."""

    training: bool = True
    end: float | None = None

    def deadline(self) -> float | None:
        return self.end


@dataclass
class Session:
    """The part of a Session that is observed."""

    progress: tuple[RunProgress, ...] = ()
    preemption: Preemption = field(default_factory=Preemption)

    def at(self, epoch, step, *, resumed=None, done=1, attempt=2):
        """Let the only run be at this position."""
        from_ = None if resumed is None else TrainingPosition(1, resumed)
        position = TrainingPosition(epoch, step)
        self.progress = (RunProgress("mnist", attempt, position, from_, done),)


class Observed:
    """A notifier with a clock of its own, whose checks the test makes itself."""

    def __init__(self, url, session, **settings):
        self.time = 100.0
        self.notifier = AttemptNotifier(
            NotificationSettings(notify=url, **settings),
            "train",
            clock=lambda: self.time,
            now=lambda: datetime(2026, 11, 23, 12, 0, tzinfo=UTC),
            every=NEVER,
        )
        self.session = session

    def check(self, seconds=1.0):
        self.time += seconds
        self.notifier.check()


@pytest.fixture
def hook():
    with webhook() as hook:
        yield hook


@pytest.fixture
def observe(hook):
    """Return a function that begins to observe a session."""
    opened = []

    def begin(session, **settings):
        observed = Observed(hook.url, session, **settings)
        watching = observed.notifier.watching(session)
        watching.__enter__()
        opened.append(watching)
        return observed

    yield begin
    for watching in opened:
        watching.__exit__(None, None, None)


def test_resumed_once_and_finished(hook, observe):
    """When the first batch after the checkpoint is done; the fields say from where."""
    session = Session()
    observed = observe(session)
    observed.check()
    session.at(1, 40, resumed=40)
    observed.check()
    assert hook.requests == []
    for step in (41, 42):
        session.at(3, step, resumed=40)
        observed.check()
    observed.notifier.attempt_ends(AttemptEnd(0))
    observed.notifier.close()
    resumed, finished = hook.documents
    host = resumed.pop("host")
    assert resumed == {
        "event": "resumed",
        "run": "mnist",
        "attempt": 2,
        "step": 40,
        "epoch": 1,
        "time": "2026-11-23T12:00:00Z",
        "reason": None,
        "exit_code": None,
        "text": f"mnist: attempt 2 on {host} continues at epoch 1, step 40",
    }
    assert (finished["event"], finished["step"], finished["epoch"]) == ("finished", 42, 3)
    assert (finished["exit_code"], finished["reason"]) == (0, None)


def test_a_short_attempt(hook, observe):
    """What happened after the last check is sent before the end."""
    session = Session()
    observed = observe(session)
    session.at(3, 42, resumed=40)
    observed.notifier.attempt_ends(AttemptEnd(75, preempted=True, source="SIGTERM"))
    observed.notifier.close()
    assert hook.names == ["resumed", "preempted"]
    assert hook.documents[1]["reason"] == "SIGTERM"
    assert hook.documents[1]["text"].endswith(
        "was preempted at epoch 3, step 42 (exit code 75): SIGTERM"
    )


@pytest.mark.parametrize(
    ("end", "event", "reason"),
    [
        (AttemptEnd(0), "finished", None),
        (AttemptEnd(1), "failed", "see the log"),
        (AttemptEnd(1, error="ValueError"), "failed", "an error of the script: ValueError"),
        (AttemptEnd(74), "failed", "final state"),
        (AttemptEnd(76), "failed", "another attempt"),
        (AttemptEnd(77), "failed", "cancelled"),
        (AttemptEnd(78), "failed", "refused"),
        (AttemptEnd(75), "failed", "see the log"),
        (AttemptEnd(143, preempted=True), "preempted", "store did not answer"),
    ],
)
def test_ends(hook, observe, end, event, reason):
    """Each end has its event, its exit code and its cause; before any fit, the run has its name."""
    observed = observe(Session())
    observed.notifier.attempt_ends(end)
    observed.notifier.close()
    (document,) = hook.documents
    assert (document["event"], document["exit_code"]) == (event, end.code)
    assert document["reason"] == reason or reason in document["reason"]
    assert (document["run"], document["attempt"], document["step"]) == ("train", None, None)
    assert document["text"].startswith("train: an attempt on ")


def test_a_notice_after_the_end(hook, observe):
    """Both ends are sent, as the run is started again; the same one is not sent twice."""
    observed = observe(Session())
    observed.notifier.attempt_ends(AttemptEnd(0))
    for _ in range(2):
        observed.notifier.attempt_ends(AttemptEnd(75, preempted=True, source="SIGTERM"))
    observed.notifier.close()
    assert hook.names == ["finished", "preempted"]


def test_stalled(hook, observe):
    """A line and a notification, once until the training goes on; validation is progress."""
    session = Session()
    session.at(1, 7, done=7)
    observed = observe(session, stalled_after="20s")
    with capture_logs() as logs:
        for _ in range(60):
            observed.check()
        session.at(1, 7, done=8)  # a batch of validation
        for _ in range(10):
            observed.check()
        session.preemption.training = False
        for _ in range(60):
            observed.check()
    observed.notifier.close()
    (line,) = logs
    assert (line["event"], line["log_level"], line["step"]) == (events.STALLED, "warning", 7)
    assert "no batch for 20s" in line["reason"]
    assert "--stalled-after" in line["fix"]
    (document,) = hook.documents
    assert (document["event"], document["step"]) == ("stalled", 7)
    assert "has stalled at epoch 1, step 7: no batch for 20s" in document["text"]


def test_stalled_without_notify(hook):
    """The line is logged without an address, too."""
    session = Session()
    session.at(1, 7)
    observed = Observed("", session, stalled_after="5")
    with observed.notifier.watching(session), capture_logs() as logs:
        for _ in range(10):
            observed.check()
    assert [line["event"] for line in logs] == [events.STALLED]
    assert hook.requests == []


@pytest.mark.parametrize(
    ("left", "waits"), [(None, 1.0), (30.0, 1.0), (1.4, 0.4), (0.5, 0.0), (-3.0, 0.0)]
)
def test_a_deadline_limits_the_wait(observe, monkeypatch, left, waits):
    """The end takes a second at most, and none of the last second before a deadline."""
    waited = []
    observed = observe(Session())
    observed.session.preemption.end = None if left is None else observed.time + left
    monkeypatch.setattr(observed.notifier._sender, "finish", waited.append)
    observed.notifier.close()
    assert waited == [pytest.approx(waits)]


@pytest.mark.parametrize(
    "url",
    ["hooks.example.com/secret", "ftp://secret", "http://", "https:///secret", "http://h:x/secret",
     "http://h/secr\u00e9t", "http://h/sec\x07ret", "http://good.example file:///secret"],
)  # fmt: skip
def test_no_url(url):
    """One line that does not show it: it may be a secret."""
    with pytest.raises(ConfigurationError, match="http") as caught:
        NotificationSettings.resolve(notify=url)
    assert "secr" not in str(caught.value)
    assert "number" in str(caught.value)


@pytest.mark.parametrize("value", ["", "never", "0", "-1", "5 batches"])
def test_no_time(value):
    """A time that is none is refused."""
    with pytest.raises(ConfigurationError, match="stalled_after"):
        NotificationSettings.resolve(stalled_after=value)


def test_settings(monkeypatch):
    """Several addresses, each once; the variables apply where nothing is given."""
    monkeypatch.setenv(
        "KEEPFIT_NOTIFY", "https://a.example/x  http://me:\u00e9@b:80 https://a.example/x"
    )
    monkeypatch.setenv("KEEPFIT_STALLED_AFTER", "2h")
    settings = NotificationSettings.resolve()
    assert settings.urls == ("https://a.example/x", "http://me:\u00e9@b:80")
    assert settings.stalled_seconds == 7200
    assert NotificationSettings.resolve(stalled_after="90s").stalled_seconds == 90
