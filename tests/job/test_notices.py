"""What the machine says of its end: asked for as AWS wants it, understood, and acted on."""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from keepfit.callbacks import events as names
from keepfit.callbacks.session import Notice, Session
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


def test_a_token_is_asked_for_once(imds, machine):
    """It is kept for all requests; what is not there is None, what is there is its text."""
    assert imds.get(SPOT) is None
    assert imds.get(MAINTENANCE) == "[]"
    assert machine.requests.count("PUT /latest/api/token") == 1


def test_a_token_that_is_refused_is_asked_for_anew(imds, machine):
    """Once, at a 401; a service that refuses the new one too can't be used."""
    imds.get(SPOT)
    machine.tokens.clear()
    assert imds.get(SPOT) is None
    machine.life = -1
    machine.tokens.clear()
    with pytest.raises(SourceUnavailable, match="401"):
        imds.get(SPOT)


def test_a_token_is_renewed_before_it_ends(machine):
    """A minute before, by the clock of this process."""
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
    """The message says what it answers."""
    machine.status = status
    with pytest.raises(SourceUnavailable, match=str(status)):
        imds.get(SPOT)


def test_hop_limit_one_is_recognised(imds, machine):
    """A token request without an answer beside a GET that is refused at once: the fix is named."""
    machine.hangs = True
    with pytest.raises(SourceUnavailable, match="HttpPutResponseHopLimit to 2"):
        imds.get(SPOT)


def test_nothing_there():
    """Outside EC2 nothing listens, which is said within the time-out."""
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
    """The variables of every AWS tool say where it is asked, or that it is not."""
    found = InstanceMetadata.from_environment(environment)
    assert (found and found._endpoint.geturl()) == address


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
def test_what_is_said(path, text, leaves, seconds):
    """Whether the machine goes, and when, as AWS documents each path."""
    warned = documents.parse_document(path, text, NOW)
    assert warned.source.startswith(path)
    assert (warned.leaves, warned.seconds) == (leaves, seconds)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (MAINTENANCE, "[]"),
        (MAINTENANCE, maintenance(100, "completed")),
        (MAINTENANCE, maintenance(100, "canceled")),
        (AUTOSCALING, "InService"),
    ],
)
def test_what_means_nothing(path, text):
    """An idle machine, and an event that is over, are no warning."""
    assert documents.parse_document(path, text, NOW) is None


USUAL = ReactionPolicy()


def polled(machine, times=1, reaction=USUAL):
    """A session after so many polls, and what was logged."""
    session = Session()
    with serving(machine) as url, capture_logs() as logs:
        watcher = NoticeWatcher(InstanceMetadata(url, timeout=0.5), session, reaction)
        for _ in range(times):
            watcher.poll()
    return session, logs


def test_an_idle_machine(machine):
    """One line says what is watched; nothing else happens."""
    session, logs = polled(machine, 3)
    assert session.notice is None
    assert not session.save_requested
    assert [log["event"] for log in logs] == [names.MACHINE_WATCHED]


def test_the_first_notice_is_latched(machine):
    """A notice that slides, as some emulators have it, does not move the deadline."""
    session = Session()
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


def test_a_recommendation_asks_for_a_save_once(machine):
    """Training goes on; the same recommendation at the next poll is not news."""
    machine.recommend()
    session, logs = polled(machine, 3)
    assert session.notice is None
    assert session.save_requested
    assert [log["event"] for log in logs].count(names.NOTICE) == 1


def test_a_service_that_dies_and_comes_back(machine):
    """Each change is one line, and the polls come seldom meanwhile."""
    session = Session()
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
def test_what_can_not_be_understood(machine, text):
    """It is logged once, with its text; a checkpoint is made in any case, and training goes on."""
    machine.said[SPOT] = text
    session, logs = polled(machine, 2)
    assert session.notice is None
    unreadable = [log for log in logs if log["event"] == names.NOTICE_UNREADABLE]
    assert [(log["source"], log["text"]) for log in unreadable] == [(SPOT, text)]
    assert session.save_requested


@pytest.mark.parametrize("ahead", [-1200.0, -61.0, 0.0, 61.0, 1200.0])
def test_clocks_that_differ(machine, ahead):
    """The deadline is so far away as the service's own clock says, whatever ours says."""
    machine.clock_ahead = ahead
    machine.interrupt(90)
    session, _ = polled(machine)
    assert 86 < session.deadline() - time.monotonic() <= 90


@pytest.mark.parametrize(
    ("ours", "least", "most"), [(-1200, 115, 120), (0, 85, 90), (60, 25, 30), (1200, None, None)]
)
def test_a_service_that_tells_no_time(machine, ours, least, most):
    """Then our clock counts, but no notice is of more than two minutes; a past one is for now."""
    machine.interrupt(90)
    machine.clock_ahead = None
    session = Session()
    with serving(machine) as url:
        clock = datetime.now(UTC) + timedelta(seconds=ours)
        NoticeWatcher(InstanceMetadata(url), session, now=lambda: clock).poll()
    notice = session.notice
    if least is None:
        assert (notice.deadline, notice.training_allowed) == (None, False)
    else:
        assert least < notice.deadline - time.monotonic() <= most


def test_a_time_already_past(machine):
    """It leaves with its next save, and tries as long as the machine lives."""
    machine.interrupt(-30)
    session, logs = polled(machine)
    assert session.notice == Notice(f"{SPOT}: terminate")
    assert not session.save_requested
    assert logs[-1]["reaction"] == "save at the next batch and leave"


def test_the_time_that_is_left_is_used(machine):
    """A save now, and one at the end; the log says so."""
    machine.interrupt(100)
    session, logs = polled(machine)
    assert (session.notice.training_allowed, session.notice.hold_until_deadline) == (True, False)
    assert session.save_requested
    assert "train on" in logs[-1]["reaction"]


def test_on_notice_leave(machine):
    """The first save is the last."""
    machine.interrupt(100)
    session, logs = polled(
        machine, reaction=ReactionPolicy(training_allowed=False, hold_until_deadline=True)
    )
    assert (session.notice.training_allowed, session.notice.hold_until_deadline) == (False, True)
    assert logs[-1]["reaction"] == "save at the next batch and leave"


def test_only_a_spot_instance_is_stayed_on(machine):
    """A scheduled reboot, or a group that shrinks, gives the place to nobody."""
    machine.said[AUTOSCALING] = "Terminated"
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
def test_notice_upon_notice(first, then, both):
    """The earlier deadline counts, and SIGTERM ends the training that a Spot notice left going."""
    session = Session()
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
def test_what_a_file_means(text, leaves, seconds, known):
    """That it exists is a notice; what it holds says when, or that a save is enough."""
    warned = custom.parse_notice("/notice", text, NOW, grace=30.0)
    assert (warned.leaves, warned.seconds, warned.known) == (leaves, seconds, known)
    assert warned.source.startswith("/notice")


def test_a_watched_file(tmp_path):
    """Nothing until it exists; then a save as it says, once, and a notice when it changes."""
    path, session = tmp_path / "notice", Session()
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


def test_a_save_may_be_asked_for_again(tmp_path):
    """Each time that the file appears."""
    path, session = tmp_path / "notice", Session()
    watcher = NoticeWatcher(custom.custom_source(str(path), 30.0), session)
    for _ in range(3):
        path.write_text('{"action": "save"}')
        watcher.poll()
        assert session.save_requested
        session.clear_save_request()
        path.unlink()
        watcher.poll()


def test_a_watched_address(machine):
    """404 is no notice; 200 is one, and its time is by the clock of the server."""
    machine.open = True
    machine.clock_ahead = 1200
    session = Session()
    with serving(machine) as url:
        watcher = NoticeWatcher(custom.custom_source(f"{url}/latest/meta-data/mine", 30.0), session)
        watcher.poll()
        assert session.notice is None
        when = machine.now() + timedelta(seconds=90)
        machine.said["mine"] = json.dumps({"time": f"{when:%Y-%m-%dT%H:%M:%SZ}"})
        watcher.poll()
    assert 86 < session.deadline() - time.monotonic() <= 90
    assert session.notice.training_allowed


def test_a_watched_source_that_fails(tmp_path, machine):
    """One line names it and the cause; a directory, an error, nobody there."""
    machine.open, machine.status = True, 503
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = f"http://127.0.0.1:{server.getsockname()[1]}/x"
    with serving(machine) as url, capture_logs() as logs:
        for name in (str(tmp_path), f"{url}/x", nobody):
            watcher = NoticeWatcher(custom.custom_source(name, 30.0), Session())
            watcher.poll()
            watcher.poll()
    assert [log["event"] for log in logs] == [names.MACHINE_NOT_WATCHED] * 3
    for log, cause in zip(logs, ["directory", "503", "refused"], strict=True):
        assert cause in log["reason"]


def test_a_service_in_a_process_of_its_own():
    """The one that a person can start, for a rehearsal."""
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
        session = Session()
        watcher = NoticeWatcher(InstanceMetadata(url), session)
        limit = time.monotonic() + 20
        while not session.notice and time.monotonic() < limit:
            watcher.poll()
        service.kill()
    assert 80 < session.deadline() - time.monotonic() <= 90


def test_polls_cost_next_to_nothing(machine):
    """Less than 0.1 percent of a core, which is 5 ms in 5 seconds."""
    with serving(machine) as url:
        watcher = NoticeWatcher(InstanceMetadata(url), Session())
        watcher.poll()
        costs = []
        for _ in range(20):
            before = time.thread_time()
            watcher.poll()
            costs.append(time.thread_time() - before)
    assert statistics.median(costs) < 0.001 * POLL_SECONDS


@pytest.mark.parametrize("address", ["http://127.0.0.1:port", "http://", "nonsense", "http://a b"])
def test_an_address_that_is_none(address):
    """It is said, and nothing else happens."""
    with capture_logs() as logs:
        NoticeWatcher(InstanceMetadata(address, timeout=0.5), Session()).poll()
        NoticeWatcher(custom.WatchedUrl(address, 30.0), Session()).poll()
    assert [log["event"] for log in logs] == [names.MACHINE_NOT_WATCHED] * 2


def test_a_service_that_hangs_delays_nothing(tmp_path, machine):
    """Neither start nor end: the log says what was wrong, if there was time to find out."""
    machine.hangs = True
    (tmp_path / "train.py").write_text("print('ran')\n")
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
