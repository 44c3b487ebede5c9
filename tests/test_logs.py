"""The log of keepfit: for users on a terminal, for `grep` and programs elsewhere."""

from __future__ import annotations

import io
import json
import re
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import structlog

from keepfit.callbacks import events
from keepfit.callbacks.logs import logger
from keepfit.callbacks.logs.words import WORDS
from keepfit.job import log_output
from tests import terminal

KEEPFIT = str(Path(sys.executable).with_name("keepfit"))
REASON = (
    "the position in this input can't be saved: a resumed fit reads it again from the start of the "
    "epoch, and may get other batches if its source is not deterministic"
)
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """A usual terminal, whatever the tests run in."""
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def on_terminal(columns=80):
    """Log some events to a terminal. Return its lines, and what was written to it."""
    with terminal.opened(columns) as (user, file):
        log_output.configure("run", file)
        log = logger.get_logger()
        log.info(events.RESUMED, epoch=7, batch=142, step=1270, checkpoint="m/checkpoints/1.json")
        log.warning(events.DATA_UNSAVABLE, input="generator", reason=REASON, fix="seed it")
        log.error(events.REFUSED, reason="no \x1b[2J such\nthing")
    return user.lines(), user.written.decode()


def test_lines_for_users():
    """The event in words, with local times; the reason and the fix wrapped below it."""
    lines, _ = on_terminal()
    assert all(re.match(r"\d\d:\d\d:\d\d keepfit: |    ", line) for line in lines)
    assert [re.sub(r"^\S+ keepfit: ", "", line) for line in lines] == [
        "resumed at epoch 7, batch 142 (step 1270)",
        "warning: data unsavable: input generator",
        "    the position in this input can't be saved: a resumed fit reads it again from",
        "    the start of the epoch, and may get other batches if its source is not",
        "    deterministic",
        "    fix: seed it",
        "error: refused",
        r"    no \x1b[2J such thing",
    ]


@pytest.mark.parametrize(("name", "value"), [("COLUMNS", "40"), ("", ""), ("COLUMNS", "x")])
def test_the_width(name, value, monkeypatch):
    """That of the terminal; COLUMNS says another one."""
    if name:
        monkeypatch.setenv(name, value)
    lines, _ = on_terminal(60)
    width = 40 if value == "40" else 60
    assert width - 15 < max(map(len, lines)) <= width


def test_a_terminal_without_a_width():
    """It has 80 columns."""
    with terminal.opened(0) as (user, file):
        log_output.configure("run", file)
        logger.get_logger().error(events.REFUSED, reason=REASON)
    parts = user.written.decode().split("\r")
    assert 65 < max(len(part.removeprefix("\x1b[2K").strip("\n")) for part in parts) <= 80


@pytest.mark.parametrize(
    ("env", "colors"),
    [
        ({}, True),
        ({"NO_COLOR": ""}, True),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True),
        ({"TERM": ""}, False),
    ],
)
def test_colors_of_a_terminal(env, colors, monkeypatch):
    """no-color.org, force-color.org; a dumb terminal gets no escape sequence."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    _, written = on_terminal()
    assert bool(re.search(r"\x1b\[[0-9;]*m", written)) == colors
    assert ("\x1b[2K" in written) == (env.get("TERM", "xterm") == "xterm")


@pytest.mark.parametrize("command", ["run", "ls", None])
@pytest.mark.parametrize("forced", [False, True])
def test_a_pipe(command, forced, monkeypatch):
    """An event is one line: JSON of `keepfit run`, words of everything else."""
    if forced:
        monkeypatch.setenv("FORCE_COLOR", "1")
    stream = io.StringIO()
    log_output.configure(command, stream)
    logger.get_logger().warning(
        events.DATA_UNSAVABLE, input=["a"] * 8, reason=f"{REASON}\n\x07", fix="seed it"
    )
    (line,) = stream.getvalue().splitlines()
    if command == "run":
        found = json.loads(line)
        assert re.fullmatch(r"[\d-]{10}T[\d:]{8}\.\d{6}Z", found.pop("timestamp"))
        assert found == {
            "input": ["a"] * 8,
            "reason": f"{REASON}\n\x07",
            "fix": "seed it",
            "event": "data_unsavable",
            "level": "warning",
        }
        return
    assert ("\x1b[33m" in line) == forced
    plain = re.sub(r"\x1b\[[0-9;]*m", "", line)
    time, _, text = plain.partition(" keepfit: ")
    assert re.fullmatch(r"[\d-]{10}T[\d:]{8}Z", time)
    items = "a, a, a, a, a, a and 2 more"
    assert text == f"warning: data unsavable: input {items}: {REASON} \\x07; fix: seed it"


def test_a_script_with_a_log_of_its_own(capsys):
    """Its structlog is neither used nor changed, nor are its context variables."""
    seen = []

    def collect(_logger, _method, event):
        seen.append(event["event"])
        raise structlog.DropEvent

    def own_factory(*_args):
        seen.append("a logger")
        return structlog.ReturnLogger()

    log = logger.get_logger()
    structlog.configure(
        processors=[collect],
        wrapper_class=structlog.BoundLogger,
        context_class=OrderedDict,
        logger_factory=own_factory,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(own="field")
    before = structlog.get_config()
    try:
        log.info(events.FINISHED, run="r", step=3)
        log_output.configure("run")
        log.info(events.FINISHED, run="r", step=4)
        structlog.get_logger("keepfit").info("the script's")  # noqa: TID251 # it is the script
        assert structlog.get_config() == before
    finally:
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
    assert seen == ["a logger", "the script's"]
    out, err = capsys.readouterr()
    words, document = err.splitlines()
    assert out == ""
    assert words.endswith(" keepfit: the fit has ended at step 3, and is saved as run r")
    assert json.loads(document).keys() == {"run", "step", "event", "level", "timestamp"}


def test_standard_error_of_the_moment(monkeypatch):
    """Without a configuration, a script or a notebook may set another one at any time."""
    log = logger.get_logger()
    for number in range(2):
        monkeypatch.setattr("sys.stderr", stream := io.StringIO())
        log.info(events.PRUNED, objects=number)
        assert stream.getvalue().endswith(f"keepfit: deleted {number} objects\n")


def test_a_log_that_nobody_reads(monkeypatch):
    """A terminal that is gone, a closed pipe or no standard error at all ends no training."""
    closed = io.StringIO()
    closed.close()
    full = open("/dev/full", "w")  # noqa: SIM115 # what it has buffered can't be written on exit
    for stream in (closed, full, None):
        monkeypatch.setattr("sys.stderr", stream)
        logger.get_logger().error(events.SAVE_FAILED, reason="x")
    with pytest.raises(OSError, match="No space"):
        full.close()


def test_debug_events():
    """They are not shown, but tests see them."""
    stream = io.StringIO()
    log_output.configure("run", stream)
    log = logger.get_logger()
    log.debug(events.SHARD_ALREADY_STORED, shard="s")
    with logger.capture_logs() as logs:
        log.debug(events.SHARD_ALREADY_STORED, shard="s")
    log.info(events.PRUNED, objects=1)
    assert logs == [{"shard": "s", "event": "shard_already_stored", "log_level": "debug"}]
    assert json.loads(stream.getvalue())["event"] == "pruned"


@pytest.mark.parametrize(
    ("event", "fields", "text"),
    [
        (events.NOTICE, {"source": "s", "seconds": None, "reaction": "r"}, "notice from s: r"),
        (
            events.NOTICE,
            {"source": "s", "seconds": 9.0, "reaction": "r"},
            "notice from s, 9 s are left: r",
        ),
        (events.SAVE_INTERVAL, {"seconds": 3.5, "reason": "x"}, "saves every 3.5 s: x"),
        (events.STORE_RETRY, {"seconds": 2, "tries": 3}, "the store is asked again in 2 s"),
        (events.RESUMED, {"epoch": 3}, "resumed: epoch 3"),
        ("an_event", {"a_b": {"k": [True, None]}, "seconds": 2}, "an event: a b k=yes, None, 2 s"),
    ],
)
def test_an_event_in_words(event, fields, text, capsys):
    """Its own words if all fields are there, else its name; fields without a value are left out."""
    logger.get_logger().info(event, **fields)
    assert capsys.readouterr().err.partition(" keepfit: ")[2] == f"{text}\n"


def test_words_belong_to_events():
    """A renamed event has its words still."""
    assert WORDS.keys() <= {value for name, value in vars(events).items() if name.isupper()}


def test_a_command_on_a_terminal(tmp_path):
    """A refusal is wrapped."""
    folder = tmp_path / ("long " * 15).strip()
    folder.mkdir()
    code, lines = terminal.shown([KEEPFIT, "show", "none", "--store", f"file://{folder}"], 140)
    assert code == 2
    assert re.fullmatch(r"\S{8} keepfit: error: refused", lines[0])
    assert all(line.startswith("    ") for line in lines[1:])
    assert " ".join(line.strip() for line in lines).count("long") == 15
