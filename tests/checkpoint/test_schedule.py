"""When a save is due, as arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callbacks.checkpoint.schedule import (
    FIRST_SAVE,
    Auto,
    EveryBatches,
    EveryEpochs,
    EverySeconds,
    Moment,
    parse,
)
from callbacks.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", Auto()),
        (" auto ", Auto()),
        ("30s", EverySeconds(30)),
        ("30 s", EverySeconds(30)),
        ("  30s  ", EverySeconds(30)),
        ("30sec", EverySeconds(30)),
        ("0.5s", EverySeconds(0.5)),
        ("250ms", EverySeconds(0.25)),
        ("1min", EverySeconds(60)),
        ("1.5 min", EverySeconds(90)),
        ("2h", EverySeconds(7200)),
        ("200 batches", EveryBatches(200)),
        ("200batches", EveryBatches(200)),
        ("1 batch", EveryBatches(1)),
        ("1.0 batch", EveryBatches(1)),
        ("1 epoch", EveryEpochs(1)),
        ("3 epochs", EveryEpochs(3)),
    ],
)
def test_parse(text, expected):
    """A number and a unit, with or without a space."""
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "5", "s", "five s", "-5s", "+5s", "0s", "0.0s", "0 batches", "0 epochs"),
        *("1.5 epochs", "0.5 batches", "5m", "5 minutes", "5 S", "1e3s", "5s 5s", "5,5s", ".5s"),
        *("5.s", "s5", "nan s", "1 epoches", "1 batchs", "inf s", "Auto", "auto 5s", "1 epoch\nx"),
        *("9" * 400 + "s", "9" * 400 + " batches"),
    ],
    ids=lambda text: repr(text)[:20],
)
def test_parse_refuses(text):
    """One line says what is possible and what came instead."""
    with pytest.raises(ConfigurationError) as caught:
        parse(text)
    message = str(caught.value)
    assert message.endswith(f"Received: save_every={text!r}")
    assert '"5min"' in message
    assert "\n" not in message


MOMENTS = st.builds(
    Moment,
    seconds=st.floats(0, 1e6),
    batches=st.integers(0, 1000),
    epochs=st.integers(0, 1000),
    first=st.booleans(),
)


@given(moment=MOMENTS, seconds=st.floats(0.001, 1e6))
def test_due_by_the_clock(moment, seconds):
    """After the interval, and the first time after ten seconds at the latest."""
    limit = min(seconds, FIRST_SAVE) if moment.first else seconds
    assert EverySeconds(seconds).due(moment) == (moment.seconds >= limit)


@given(moment=MOMENTS, count=st.integers(1, 1000))
def test_due_by_batches_and_epochs(moment, count):
    """After that many, whether or not it is the first time, and whatever the clock says."""
    assert EveryBatches(count).due(moment) == (moment.batches >= count)
    assert EveryEpochs(count).due(moment) == (moment.epochs >= count)


@pytest.mark.parametrize(
    ("schedule", "moment", "due"),
    [
        (EverySeconds(60), Moment(seconds=9.99, batches=9, epochs=9, first=True), False),
        (EverySeconds(60), Moment(seconds=10.0, batches=0, epochs=0, first=True), True),
        (EverySeconds(5), Moment(seconds=5.0, batches=0, epochs=0, first=True), True),
        (EverySeconds(60), Moment(seconds=59.9, batches=9, epochs=9, first=False), False),
        (EverySeconds(60), Moment(seconds=60.0, batches=0, epochs=0, first=False), True),
        (EveryBatches(2), Moment(seconds=1e9, batches=1, epochs=9, first=True), False),
        (EveryBatches(2), Moment(seconds=0, batches=2, epochs=0, first=False), True),
        (EveryEpochs(1), Moment(seconds=1e9, batches=99, epochs=0, first=True), False),
        (EveryEpochs(1), Moment(seconds=0, batches=0, epochs=1, first=False), True),
    ],
)
def test_due(schedule, moment, due):
    """A few moments by hand."""
    assert schedule.due(moment) is due
