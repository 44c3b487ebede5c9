"""Notices of the machine: polling as AWS requires it, parsing, and the reactions."""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from keepfit.callbacks import events as names
from keepfit.callbacks.engine.preemption import Notice, PreemptionState
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.job.notices import custom, documents
from keepfit.job.notices.imds import IPV4, IPV6, InstanceMetadata
from keepfit.job.notices.source import SourceUnavailable
from keepfit.job.notices.watcher import (
    MAX_POLL_SECONDS,
    POLL_SECONDS,
    NoticeWatcher,
    ReactionPolicy,
)
from tests.e2e.process import ROOT, run
from tests.imds import AUTOSCALING, MAINTENANCE, REBALANCE, SPOT, Machine, serving

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def imds(machine):
    with serving(machine) as url:
        yield InstanceMetadata(url, timeout=0.5)


def test_a_token_is_requested_once(imds, machine):
    """The token is kept for all requests; a missing path is None, an existing one its text."""
    assert imds.get(SPOT) is None
    assert imds.get(MAINTENANCE) == "[]"
    assert machine.requests.count("PUT /latest/api/token") == 1


def test_a_refused_token_is_renewed(imds, machine):
    """A 401 renews the token once; a service that refuses the new one, too, is unavailable."""
    imds.get(SPOT)
    machine.tokens.clear()
    assert imds.get(SPOT) is None
    machine.life = -1
    machine.tokens.clear()
    with pytest.raises(SourceUnavailable, match="401"):
        imds.get(SPOT)


def test_a_token_is_renewed_before_it_expires(machine):
    """It is renewed a minute before, by the clock of this process."""
    now = 0.0
    with serving(machine) as url:
        imds = InstanceMetadata(url, clock=lambda: now)
        imds.get(SPOT)
        now = 21600 - 61
        imds.get(SPOT)
        assert len(machine.tokens) == 1
        now = 21600 - 59
        imds.get(SPOT)
        assert len(machine.tokens) == 2


@pytest.mark.parametrize("status", [400, 403, 500, 503])
def test_a_service_that_refuses(imds, machine, status):
    """The message has the status of the answer."""
    machine.status = status
    with pytest.raises(SourceUnavailable, match=str(status)):
        imds.get(SPOT)


def test_hop_limit_one_is_recognised(imds, machine):
    """A token request without an answer, while a GET is refused at once: the fix is named."""
    machine.hangs = True
    with pytest.raises(SourceUnavailable, match="HttpPutResponseHopLimit to 2"):
        imds.get(SPOT)


def test_no_service():
    """Outside EC2 no service listens, which is an error within the time-out."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(SourceUnavailable, match="does not answer"):
        InstanceMetadata(f"http://127.0.0.1:{port}").get(SPOT)


@pytest.mark.parametrize(
    ("environment", "address"),
    [
        ({}, IPV4),
        ({"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv6"}, IPV6),
        ({"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1338"}, "http://127.0.0.1:1338"),
        ({"AWS_EC2_METADATA_DISABLED": "True"}, None),
        ({"AWS_EC2_METADATA_DISABLED": "false"}, IPV4),
    ],
)
def test_environment(environment, address):
    """The variables of all AWS tools set the address of the service, or disable it."""
    metadata = InstanceMetadata.from_environment(environment)
    assert (metadata and metadata.describe()["machine"]) == address


def in_(seconds):
    return NOW + timedelta(seconds=seconds)


def spot(seconds, action="terminate"):
    return json.dumps({"action": action, "time": f"{in_(seconds):%Y-%m-%dT%H:%M:%SZ}"})


def maintenance(seconds, state="active"):
    at = f"{in_(seconds):%d %b %Y %H:%M:%S GMT}"
    return json.dumps([{"NotBefore": at, "Code": "system-reboot", "State": state}])


@pytest.mark.parametrize(
    ("path", "text", "leaves", "seconds"),
    [
        (SPOT, spot(120), True, 120.0),
        (SPOT, spot(108, "stop"), True, 108.0),
        (SPOT, spot(1320), True, 120.0),
        (SPOT, spot(108).replace("Z", ""), True, 108.0),
        (SPOT, spot(120, "hibernate"), True, 0.0),
        (SPOT, spot(-1200), True, 0.0),
        (REBALANCE, '{"noticeTime": "2020-10-27T08:22:00Z"}', False, None),
        (MAINTENANCE, maintenance(3600), False, 3600.0),
        (MAINTENANCE, maintenance(100), True, 100.0),
        (AUTOSCALING, "Terminated", True, None),
    ],
)
def test_documents(path, text, leaves, seconds):
    """Each document says whether the machine goes, and when, as AWS documents its path."""
    warned = documents.parse_document(path, text, NOW)
    assert warned.source.startswith(path)
    assert (warned.terminates, warned.seconds) == (leaves, seconds)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (MAINTENANCE, "[]"),
        (MAINTENANCE, maintenance(100, "completed")),
        (MAINTENANCE, maintenance(100, "canceled")),
        (AUTOSCALING, "InService"),
    ],
)
def test_documents_without_a_notice(path, text):
    """An idle machine, and an event that is over, give no notice."""
    assert documents.parse_document(path, text, NOW) is None


USUAL = ReactionPolicy()


def polled(machine, times=1, reaction=USUAL):
    """Poll the machine. Return the session and the log."""
    session = PreemptionState()
    with serving(machine) as url, capture_logs() as logs:
        watcher = NoticeWatcher(InstanceMetadata(url, timeout=0.5), session, reaction)
        for _ in range(times):
            watcher.poll()
    return session, logs


def test_an_idle_machine(machine):
    """One line says that the machine is watched; nothing else happens."""
    session, logs = polled(machine, 3)
    assert session.notice is None
    assert not session.save_requested
    assert [log["event"] for log in logs] == [names.MACHINE_WATCHED]


def test_the_first_notice_is_latched(machine):
    """A notice whose time changes, as with some emulators, does not move the deadline."""
    session = PreemptionState()
    with serving(machine) as url:
        watcher = NoticeWatcher(InstanceMetadata(url), session)
        machine.interrupt(60)
        watcher.poll()
        first = session.deadline()
        machine.interrupt(600)
        watcher.poll()
    assert session.deadline() == first
    assert 57 < first - time.monotonic() <= 60
    assert session.notice.source == f"{SPOT}: terminate"


def test_a_recommendation_requests_one_save(machine):
    """Training continues; the same recommendation at the next poll has no effect."""
    machine.recommend()
    session, logs = polled(machine, 3)
    assert session.notice is None
    assert session.save_requested
    assert [log["event"] for log in logs].count(names.NOTICE) == 1


def test_a_service_that_fails_and_recovers(machine):
    """Each change is one line; while the service fails, polls are rarer."""
    session = PreemptionState()
    with serving(machine) as url, capture_logs() as logs:
        watcher = NoticeWatcher(InstanceMetadata(url, timeout=0.5), session)
        watcher.poll()
        machine.status = 503
        for _ in range(6):
            watcher.poll()
        assert watcher._pause == MAX_POLL_SECONDS
        machine.status = None
        watcher.poll()
        assert watcher._pause < MAX_POLL_SECONDS
    assert [log["event"] for log in logs] == [
        names.MACHINE_WATCHED,
        names.MACHINE_NOT_WATCHED,
        names.MACHINE_WATCHED,
    ]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"action": "terminate"}', '{"time": 3}'])
def test_an_unreadable_document(machine, text):
    """It is logged once, with its text; a save is requested in any case, and training continues."""
    machine.documents[SPOT] = text
    session, logs = polled(machine, 2)
    assert session.notice is None
    unreadable = [log for log in logs if log["event"] == names.NOTICE_UNREADABLE]
    assert [(log["source"], log["text"]) for log in unreadable] == [(SPOT, text)]
    assert session.save_requested


@pytest.mark.parametrize("offset", [-1200.0, -61.0, 0.0, 61.0, 1200.0])
def test_clocks_that_differ(machine, offset):
    """The time left is computed by the service's own clock, whatever ours shows."""
    machine.clock_ahead = offset
    machine.interrupt(90)
    session, _ = polled(machine)
    assert 86 < session.deadline() - time.monotonic() <= 90


@pytest.mark.parametrize(
    ("offset", "least", "most"), [(-1200, 115, 120), (0, 85, 90), (60, 25, 30), (1200, None, None)]
)
def test_a_service_without_a_clock(machine, offset, least, most):
    """Our clock is used, but a notice is two minutes at most, and a past time means now."""
    machine.interrupt(90)
    machine.clock_ahead = None
    session = PreemptionState()
    with serving(machine) as url:
        clock = datetime.now(UTC) + timedelta(seconds=offset)
        NoticeWatcher(InstanceMetadata(url), session, now=lambda: clock).poll()
    notice = session.notice
    if least is None:
        assert (notice.deadline, notice.training_allowed) == (None, False)
    else:
        assert least < notice.deadline - time.monotonic() <= most


def test_a_time_in_the_past(machine):
    """It exits after its next save, which has no deadline: the machine may still last."""
    machine.interrupt(-30)
    session, logs = polled(machine)
    assert session.notice == Notice(f"{SPOT}: terminate")
    assert not session.save_requested
    assert logs[-1]["reaction"] == "save at the next batch and exit"


def test_the_time_that_is_left_is_used(machine):
    """It saves now and once more before the deadline; the log says so."""
    machine.interrupt(100)
    session, logs = polled(machine)
    assert (session.notice.training_allowed, session.notice.hold_until_deadline) == (True, False)
    assert session.save_requested
    assert "train on" in logs[-1]["reaction"]


def test_on_notice_leave(machine):
    """With --on-notice leave, it exits after the first save."""
    machine.interrupt(100)
    session, logs = polled(
        machine, reaction=ReactionPolicy(training_allowed=False, hold_until_deadline=True)
    )
    assert (session.notice.training_allowed, session.notice.hold_until_deadline) == (False, True)
    assert logs[-1]["reaction"] == "save at the next batch and exit"


def test_only_a_spot_instance_is_held(machine):
    """After other notices (a reboot, a shrinking group), the process is not held."""
    machine.documents[AUTOSCALING] = "Terminated"
    session, _ = polled(machine, reaction=ReactionPolicy(hold_until_deadline=True))
    assert session.notice == Notice(f"{AUTOSCALING}: Terminated")


@pytest.mark.parametrize(
    ("first", "then", "both"),
    [
        (Notice("a", 9.0, True, True), Notice("b", 5.0), Notice("b", 5.0)),
        (Notice("a", 9.0, True, True), Notice("b"), Notice("b", 9.0)),
        (Notice("a", 5.0), Notice("b", 9.0, True, True), Notice("a", 5.0)),
        (Notice("a"), Notice("b", 9.0), Notice("a", 9.0)),
        (Notice("a", 9.0, True), Notice("b", 12.0, True), Notice("a", 9.0, True)),
    ],
)
def test_merged_notices(first, then, both):
    """The earlier deadline wins; SIGTERM ends a training that a Spot notice let continue."""
    session = PreemptionState()
    session.give_notice(first)
    session.give_notice(then)
    assert session.notice == both


def at(seconds, **more):
    return json.dumps({"time": f"{in_(seconds):%Y-%m-%dT%H:%M:%SZ}", **more})


@pytest.mark.parametrize(
    ("text", "leaves", "seconds", "known"),
    [
        ("", True, 30.0, False),
        ("go", True, 30.0, False),
        ("[]", True, 30.0, False),
        ("{}", True, 30.0, False),
        ('{"action": "leave"}', True, 30.0, False),
        ('{"time": "soon"}', True, 30.0, False),
        ('{"time": 5}', True, 30.0, False),
        (at(600), True, 600.0, True),
        (at(600).replace("Z", ""), True, 600.0, True),
        (at(-1), True, 0.0, True),
        (at(60, action="terminate"), True, 60.0, True),
        (at(60, action="save"), False, None, True),
        ('{"action": "save"}', False, None, True),
    ],
)
def test_contents_of_a_watched_file(text, leaves, seconds, known):
    """The file's existence is a notice; its content may have a time, or request only a save."""
    warned = custom.parse_notice("/notice", text, NOW, grace=30.0)
    assert (warned.terminates, warned.seconds, warned.time_known) == (leaves, seconds, known)
    assert warned.source.startswith("/notice")


def test_a_watched_file(tmp_path):
    """Its appearance requests one save, as it says; its change is a notice."""
    path, session = tmp_path / "notice", PreemptionState()
    with capture_logs() as logs:
        watcher = NoticeWatcher(custom.custom_source(str(path), 30.0), session)
        watcher.poll()
        assert (session.notice, session.save_requested) == (None, False)
        path.write_text('{"action": "save"}')
        watcher.poll()
        assert (session.notice, session.save_requested) == (None, True)
        session.clear_save_request()
        watcher.poll()
        assert not session.save_requested
        path.write_text("")
        watcher.poll()
        path.unlink()
        watcher.poll()
    assert 28 < session.deadline() - time.monotonic() <= 30
    assert not session.notice.training_allowed
    assert [log["event"] for log in logs] == [names.MACHINE_WATCHED, names.NOTICE, names.NOTICE]
    assert logs[0]["file"] == str(path)


def test_a_save_may_be_requested_again(tmp_path):
    """Each appearance of the file requests a save."""
    path, session = tmp_path / "notice", PreemptionState()
    watcher = NoticeWatcher(custom.custom_source(str(path), 30.0), session)
    for _ in range(3):
        path.write_text('{"action": "save"}')
        watcher.poll()
        assert session.save_requested
        session.clear_save_request()
        path.unlink()
        watcher.poll()


def test_a_watched_address(machine):
    """404 is no notice; 200 is one, with its time by the server's clock."""
    machine.open = True
    machine.clock_ahead = 1200
    session = PreemptionState()
    with serving(machine) as url:
        watcher = NoticeWatcher(custom.custom_source(f"{url}/latest/meta-data/mine", 30.0), session)
        watcher.poll()
        assert session.notice is None
        when = machine.now() + timedelta(seconds=90)
        machine.documents["mine"] = json.dumps({"time": f"{when:%Y-%m-%dT%H:%M:%SZ}"})
        watcher.poll()
    assert 86 < session.deadline() - time.monotonic() <= 90
    assert session.notice.training_allowed


def test_a_watched_source_that_fails(tmp_path, machine):
    """One line names the source and the cause: a directory, an HTTP error, no server."""
    machine.open, machine.status = True, 503
    with socket.create_server(("127.0.0.1", 0)) as server:
        unreachable = f"http://127.0.0.1:{server.getsockname()[1]}/x"
    with serving(machine) as url, capture_logs() as logs:
        for name in (str(tmp_path), f"{url}/x", unreachable):
            watcher = NoticeWatcher(custom.custom_source(name, 30.0), PreemptionState())
            watcher.poll()
            watcher.poll()
    assert [log["event"] for log in logs] == [names.MACHINE_NOT_WATCHED] * 3
    for log, cause in zip(logs, ["directory", "503", "refused"], strict=True):
        assert cause in log["reason"]


def test_a_service_in_a_process_of_its_own():
    """The emulated service can be started by hand, for a rehearsal."""
    command = [
        sys.executable,
        "-m",
        "tests.imds",
        "--port",
        "0",
        "--spot-in",
        "1ms",
        "--left",
        "90",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as service:
        url = service.stdout.readline().strip().partition("=")[2]
        session = PreemptionState()
        watcher = NoticeWatcher(InstanceMetadata(url), session)
        limit = time.monotonic() + 20
        while not session.notice and time.monotonic() < limit:
            watcher.poll()
        service.kill()
    assert 80 < session.deadline() - time.monotonic() <= 90


def test_polls_are_cheap(machine):
    """They take less than 0.1 percent of a core, which is 5 ms in 5 seconds."""
    with serving(machine) as url:
        watcher = NoticeWatcher(InstanceMetadata(url), PreemptionState())
        watcher.poll()
        costs = []
        for _ in range(20):
            before = time.thread_time()
            watcher.poll()
            costs.append(time.thread_time() - before)
    assert statistics.median(costs) < 0.001 * POLL_SECONDS


@pytest.mark.parametrize("address", ["http://127.0.0.1:port", "http://", "nonsense", "http://a b"])
def test_an_invalid_address(address):
    """It is logged, and nothing else happens."""
    with capture_logs() as logs:
        NoticeWatcher(InstanceMetadata(address, timeout=0.5), PreemptionState()).poll()
        NoticeWatcher(custom.WatchedUrl(address, 30.0), PreemptionState()).poll()
    assert [log["event"] for log in logs] == [names.MACHINE_NOT_WATCHED] * 2


def test_a_service_that_hangs_delays_nothing(tmp_path, machine):
    """A metadata service that hangs delays neither the start nor the end of the process."""
    machine.hangs = True
    (tmp_path / "train.py").write_text("print('ran')\n")
    run(tmp_path, "train.py")  # starts the fork server, which imports TensorFlow
    with serving(machine) as url:
        began = time.monotonic()
        ended = run(
            tmp_path,
            "train.py",
            AWS_EC2_METADATA_DISABLED="false",
            AWS_EC2_METADATA_SERVICE_ENDPOINT=url,
        )
        seconds = time.monotonic() - began
    assert (ended.code, ended.out) == (0, "ran\n")
    assert seconds < 3
