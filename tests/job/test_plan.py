"""`keepfit plan`, and save_every="auto" on machines with recorded lifetimes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from keepfit.callbacks.engine.save_interval import format_duration
from keepfit.callbacks.engine.save_policy import SaveAutomatically, SaveEverySeconds
from keepfit.job.cli import app
from keepfit.job.commands.plan import STALL_SHARE
from keepfit.job.planning.lifetimes import RECORDED, read_lifetimes
from keepfit.job.planning.plan import FIXED
from keepfit.job.planning.replay import Conditions, useful_share

LIVES = read_lifetimes(RECORDED)
SAVES = (0.01, 0.1, 1.0, 4.0, 15.0, 60.0)
RESTARTS = (20.0, 60.0, 180.0)
WORST_SHARE = 1.0
"""The largest possible share of a save's time for which training stalls."""

TOLERANCE = 0.005
"""How far below the best fixed interval auto may be, as a share of the machines' time."""


def keepfit(*args, code=0):
    """Run `keepfit plan` and assert its exit code. Return the result with its output."""
    ended = CliRunner().invoke(app, ["plan", *args])
    assert ended.exit_code == code, ended.output
    assert not ended.exception or isinstance(ended.exception, SystemExit), ended.exception
    return ended


@pytest.mark.parametrize("notices", [True, False])
@pytest.mark.parametrize(
    ("saves", "share"), [(SAVES, STALL_SHARE), ((*SAVES[:4], 6.0), WORST_SHARE)]
)
def test_auto_is_as_good_as_the_best_fixed_interval(notices, saves, share):
    """auto is at most half a percentage point below the best fixed interval in hindsight.

    With notices, the rarest saves are best, but a save every 15 minutes is promised. A save that
    costs training more than 6 s then loses more than half a point against one every hour.
    """
    for save in saves:
        for restart in RESTARTS:
            conditions = Conditions(save, save * share, restart, notices)
            shares = [useful_share(LIVES, SaveEverySeconds(s), conditions) for s in FIXED]
            auto = useful_share(LIVES, SaveAutomatically(), conditions)
            assert auto >= max(shares) - TOLERANCE, conditions


@pytest.mark.parametrize("share", [STALL_SHARE, WORST_SHARE])
def test_nearly_all_time_is_useful(share):
    """More than 98 percent with saves of 1 s, restarts of 20 s, and notices.

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
    """Restart 30 s, saves of 4 s that stall 1 s: the first after 10 s, then one a minute.

    A machine with a notice saves the last time 11 s before its end.
    """
    conditions = Conditions(4.0, 1.0, 30.0, notices)
    share = useful_share([life], SaveEverySeconds(60), conditions)
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
    """The useful share is not negative, and at most the share that remains after restarts."""
    policy = SaveEverySeconds(every) if every else SaveAutomatically()
    useful = useful_share(lives, policy, Conditions(save, save * share, restart, notices))
    trainable = sum(max(0.0, life - restart) for life in lives)
    assert 0 <= useful <= trainable / sum(lives) + 1e-9


def test_plan_as_text():
    """A bar for auto and each fixed interval, and a description of auto."""
    lines = keepfit("--save-cost", "4s", "--restart", "30s").stdout.splitlines()
    assert lines[0].startswith("322 lifetimes of machines")
    rows = {line.split("%")[0].rsplit(maxsplit=1)[0].strip(): line for line in lines if "█" in line}
    assert list(rows) == ["auto", *map(format_duration, FIXED)]
    assert rows["auto"].count("█") > rows["10 s"].count("█")
    assert "auto saves 10 s after the start" in "\n".join(lines)


def test_plan_as_json():
    """The same content as JSON, with and without notices."""
    with_notices = json.loads(keepfit("--save-cost", "4s", "--json").stdout)
    without = json.loads(keepfit("--save-cost", "4s", "--no-notices", "--json").stdout)
    assert with_notices["lives"]["count"] == len(LIVES)
    assert with_notices["conditions"] == {"save": 4, "stall": 0.4, "restart": 30, "notices": True}
    assert 0.98 < without["auto"]["share"] < with_notices["auto"]["share"] < 1
    assert [each["interval"] for each in with_notices["fixed"]] == list(FIXED)
    assert with_notices["best_fixed"] > without["best_fixed"]
    auto = with_notices["auto"]
    assert 30 <= auto["interval"] < auto["interval_after_an_hour"] <= 900


def test_plan_with_other_lifetimes(tmp_path):
    """A file of lifetimes replaces the recorded ones."""
    file = tmp_path / "lives.csv"
    file.write_text("zone,life_seconds\na,3600\nb,7200.5\n")
    plan = json.loads(keepfit("--save-cost", "1s", "--lives", str(file), "--json").stdout)
    assert plan["lives"] == {"count": 2, "mean": 5400.25, "median": 5400.25}


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
    """One line names the bad option; the exit code is 2."""
    refused(args, message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no column 'life_seconds'"),
        (b"life\n5\n", "no column 'life_seconds'"),
        (b"life_seconds\n", "contains no lifetimes"),
        (b"life_seconds\n5\nlong\n", "line 3: life_seconds must be a number"),
        (b"life_seconds\n0\n", "Received: '0'"),
        (b"life_seconds\ninf\n", "Received: 'inf'"),
        (b"life_seconds\nnan\n", "Received: 'nan'"),
        (b"zone,life_seconds\na\n", "Received: None"),
        (b"\xff\xfe\x00", "can't be read"),
    ],
    ids=repr,
)
def test_plan_refuses_a_file(tmp_path, content, message):
    """The error names the file's line or column, or the bad value."""
    file = tmp_path / "lives.csv"
    file.write_bytes(content)
    refused(["--save-cost", "4s", "--lives", str(file)], message)


def refused(args, message):
    """Assert that the command writes one line of log with the message, and exits with 2."""
    ended = keepfit(*args, code=2)
    (line,) = ended.stderr.splitlines()
    assert " keepfit: error: refused: " in line
    assert message in line
    assert not ended.stdout


@pytest.mark.parametrize(
    ("command", "default"),
    [("run", "[default: auto]"), ("plan", "[default: 30s]"), ("plan", "[default: 322 Spot")],
)
def test_help_names_defaults(command, default):
    """The help text names the default of each option."""
    ended = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert default in ended.stdout


def test_plan_is_fast():
    """It imports neither TensorFlow nor Keras."""
    code = (
        "import sys; from keepfit.job.cli import app; app(['plan', '--save-cost', '4s'], "
        "standalone_mode=False); sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    environment = {**os.environ, "COLUMNS": "100"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True)
