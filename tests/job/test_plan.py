"""`keepfit plan`, and save_every="auto" on machines that live as long as recorded ones did."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from keepfit.callbacks.checkpoint.save_interval import format_duration
from keepfit.callbacks.checkpoint.save_policy import SaveAutomatically, SaveEverySeconds
from keepfit.job.cli import app
from keepfit.job.commands.plan import STALL_SHARE
from keepfit.job.planning.lifetimes import RECORDED, read_lifetimes
from keepfit.job.planning.plan import FIXED
from keepfit.job.planning.replay import Conditions, useful_share

LIVES = read_lifetimes(RECORDED)
SAVES = (0.01, 0.1, 1.0, 4.0, 15.0, 60.0)
RESTARTS = (20.0, 60.0, 180.0)
ALL = 1.0
"""The share of a save's time that training loses at the very worst."""

NEAR = 0.005
"""How far below the best fixed interval auto may be, in shares of the machines' time."""


def keepfit(*args, code=0):
    """What the command prints; it must end with this code."""
    ended = CliRunner().invoke(app, ["plan", *args])
    assert ended.exit_code == code, ended.output
    assert not ended.exception or isinstance(ended.exception, SystemExit), ended.exception
    return ended


@pytest.mark.parametrize("notices", [True, False])
@pytest.mark.parametrize(("saves", "share"), [(SAVES, STALL_SHARE), ((*SAVES[:4], 6.0), ALL)])
def test_auto_is_as_good_as_the_best_fixed_interval(notices, saves, share):
    """Never more than half a point below the one that would have been chosen with hindsight.

    With notices, the rarer the better, but a save every 15 minutes is promised. One that costs
    training more than 6 s then loses more than half a point against one every hour.
    """
    for save in saves:
        for restart in RESTARTS:
            under = Conditions(save, save * share, restart, notices)
            best = max(useful_share(LIVES, SaveEverySeconds(every), under) for every in FIXED)
            assert useful_share(LIVES, SaveAutomatically(), under) >= best - NEAR, under


@pytest.mark.parametrize("share", [STALL_SHARE, ALL])
def test_nearly_all_time_is_useful(share):
    """More than 98 percent with a save of a second, a restart of 20 and notices.

    Restarts alone take 0.3 percent of these machines' time.
    """
    assert (
        useful_share(LIVES, SaveAutomatically(), Conditions(1.0, share, 20.0, notices=True)) > 0.98
    )


@pytest.mark.parametrize(
    ("life", "notices", "useful"),
    [
        (20.0, False, 0.0),
        (39.9, False, 0.0),
        (44.0, False, 10.0),
        (104.0, False, 69.0),
        (164.0, False, 128.0),
        (40.0, True, 0.0),
        (41.1, True, 0.1 - 1),
        (100.0, True, 58.0),
        (300.0, True, 255.0),
    ],
)
def test_replay_by_hand(life, notices, useful):
    """Restart 30 s, saves of 4 s that cost 1 s, one every minute after the first at 10 s.

    A warned machine saves the last time 11 s before its end.
    """
    under = Conditions(4.0, 1.0, 30.0, notices)
    share = useful_share([life], SaveEverySeconds(60), under)
    assert share * life == pytest.approx(max(0.0, useful), abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(
    lives=st.lists(st.floats(0.001, 1e5), min_size=1, max_size=10),
    save=st.floats(0, 200),
    share=st.floats(0, 1),
    restart=st.floats(0, 1000),
    notices=st.booleans(),
    every=st.sampled_from([None, *FIXED]),
)
def test_replay_keeps_within_bounds(lives, save, share, restart, notices, every):
    """No more is useful than what remains after the restarts, and never less than nothing."""
    policy = SaveEverySeconds(every) if every else SaveAutomatically()
    found = useful_share(lives, policy, Conditions(save, save * share, restart, notices))
    trainable = sum(max(0.0, life - restart) for life in lives)
    assert 0 <= found <= trainable / sum(lives) + 1e-9


def test_plan_for_people():
    """A bar for auto and each fixed interval, and what auto does."""
    lines = keepfit("--save-cost", "4s", "--restart", "30s").stdout.splitlines()
    assert lines[0].startswith("322 lives of machines")
    rows = {line.split("%")[0].rsplit(maxsplit=1)[0].strip(): line for line in lines if "█" in line}
    assert list(rows) == ["auto", *map(format_duration, FIXED)]
    assert rows["auto"].count("█") > rows["10 s"].count("█")
    assert "auto saves 10 s after the start" in "\n".join(lines)


def test_plan_for_programs():
    """The same as JSON, without notices if so asked."""
    warned = json.loads(keepfit("--save-cost", "4s", "--json").stdout)
    other = json.loads(keepfit("--save-cost", "4s", "--no-notices", "--json").stdout)
    assert warned["lives"]["count"] == len(LIVES)
    assert warned["conditions"] == {"save": 4, "stall": 0.4, "restart": 30, "notices": True}
    assert 0.98 < other["auto"]["share"] < warned["auto"]["share"] < 1
    assert [each["interval"] for each in warned["fixed"]] == list(FIXED)
    assert warned["best_fixed"] > other["best_fixed"]
    assert 30 <= warned["auto"]["interval"] < warned["auto"]["interval_after_an_hour"] <= 900


def test_plan_of_ones_own_machines(tmp_path):
    """A file of lifetimes takes the place of the recorded ones."""
    file = tmp_path / "lives.csv"
    file.write_text("zone,life_seconds\na,3600\nb,7200.5\n")
    found = json.loads(keepfit("--save-cost", "1s", "--lives", str(file), "--json").stdout)
    assert found["lives"] == {"count": 2, "mean": 5400.25, "median": 5400.25}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--save-cost", "often"], "Received: 'often'"),
        (["--save-cost", "-1s"], "Received: '-1s'"),
        (["--save-cost", "4s", "--restart", "1 epoch"], "Received: '1 epoch'"),
        (["--save-cost", "4s", "--stall", "5s"], "--stall=5s --save-cost=4s"),
        (["--save-cost", "4s", "--lives", "missing.csv"], "missing.csv"),
        (["--save-cost", "4s", "--lives", "."], "can't be read from ."),
    ],
    ids=str,
)
def test_plan_refuses(args, message):
    """One line says what is wrong, and the exit code is that of a wrong command."""
    refused(args, message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no column 'life_seconds'"),
        (b"life\n5\n", "no column 'life_seconds'"),
        (b"life_seconds\n", "holds no lifetimes"),
        (b"life_seconds\n5\nlong\n", "line 3: life_seconds is a number"),
        (b"life_seconds\n0\n", "Received: '0'"),
        (b"life_seconds\ninf\n", "Received: 'inf'"),
        (b"life_seconds\nnan\n", "Received: 'nan'"),
        (b"zone,life_seconds\na\n", "Received: None"),
        (b"\xff\xfe\x00", "can't be read"),
    ],
    ids=repr,
)
def test_plan_refuses_a_file(tmp_path, content, message):
    """The line names the file, and the line in it."""
    file = tmp_path / "lives.csv"
    file.write_bytes(content)
    refused(["--save-cost", "4s", "--lives", str(file)], message)


def refused(args, message):
    """One line of log, with exit code 2."""
    ended = keepfit(*args, code=2)
    (line,) = ended.stderr.splitlines()
    assert message in json.loads(line)["reason"]
    assert not ended.stdout


@pytest.mark.parametrize(
    ("command", "default"),
    [("run", "[default: auto]"), ("plan", "[default: 30s]"), ("plan", "[default: 322 Spot")],
)
def test_help_names_defaults(command, default):
    """What holds where a flag is not given is written beside it."""
    ended = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert default in ended.stdout


def test_plan_answers_at_once():
    """It needs neither TensorFlow nor a store."""
    code = (
        "import sys; from keepfit.job.cli import app; app(['plan', '--save-cost', '4s'], "
        "standalone_mode=False); sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    environment = {**os.environ, "COLUMNS": "100"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True)
