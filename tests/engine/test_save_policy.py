"""Save policies: when a save is due, and how policies are parsed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.callbacks.engine.save_policy import (
    FIRST_SAVE,
    DecisionContext,
    SaveAutomatically,
    SaveEveryBatches,
    SaveEveryEpochs,
    SaveEverySeconds,
    parse_save_policy,
)
from keepfit.callbacks.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", SaveAutomatically()),
        (" auto ", SaveAutomatically()),
        ("30s", SaveEverySeconds(30)),
        ("30 s", SaveEverySeconds(30)),
        ("  30s  ", SaveEverySeconds(30)),
        ("30sec", SaveEverySeconds(30)),
        ("0.5s", SaveEverySeconds(0.5)),
        ("250ms", SaveEverySeconds(0.25)),
        ("1min", SaveEverySeconds(60)),
        ("1.5 min", SaveEverySeconds(90)),
        ("2h", SaveEverySeconds(7200)),
        ("200 batches", SaveEveryBatches(200)),
        ("200batches", SaveEveryBatches(200)),
        ("1 batch", SaveEveryBatches(1)),
        ("1.0 batch", SaveEveryBatches(1)),
        ("1 epoch", SaveEveryEpochs(1)),
        ("3 epochs", SaveEveryEpochs(3)),
    ],
)
def test_parse(text, expected):
    """A policy is a number and a unit, with or without a space."""
    assert parse_save_policy(text) == expected


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
    """One line names the possible forms and the value that was received."""
    with pytest.raises(ConfigurationError) as caught:
        parse_save_policy(text)
    message = str(caught.value)
    assert message.endswith(f"Received: save_every={text!r}")
    assert '"5min"' in message
    assert "\n" not in message


MOMENTS = st.builds(
    DecisionContext,
    seconds=st.floats(0, 1e6),
    batches=st.integers(0, 1000),
    epochs=st.integers(0, 1000),
    first=st.booleans(),
)


@given(moment=MOMENTS, seconds=st.floats(0.001, 1e6))
def test_due_by_the_clock(moment, seconds):
    """A save is due after the interval, and the first one after ten seconds at the latest."""
    limit = min(seconds, FIRST_SAVE) if moment.first else seconds
    assert SaveEverySeconds(seconds).should_save(moment) == (moment.seconds >= limit)


@given(moment=MOMENTS, count=st.integers(1, 1000))
def test_due_by_batches_and_epochs(moment, count):
    """A save is due after that many, first or not, whatever the clock shows."""
    assert SaveEveryBatches(count).should_save(moment) == (moment.batches >= count)
    assert SaveEveryEpochs(count).should_save(moment) == (moment.epochs >= count)


@pytest.mark.parametrize(
    ("policy", "moment", "due"),
    [
        (
            SaveEverySeconds(60),
            DecisionContext(seconds=9.99, batches=9, epochs=9, first=True),
            False,
        ),
        (
            SaveEverySeconds(60),
            DecisionContext(seconds=10.0, batches=0, epochs=0, first=True),
            True,
        ),
        (SaveEverySeconds(5), DecisionContext(seconds=5.0, batches=0, epochs=0, first=True), True),
        (
            SaveEverySeconds(60),
            DecisionContext(seconds=59.9, batches=9, epochs=9, first=False),
            False,
        ),
        (
            SaveEverySeconds(60),
            DecisionContext(seconds=60.0, batches=0, epochs=0, first=False),
            True,
        ),
        (SaveEveryBatches(2), DecisionContext(seconds=1e9, batches=1, epochs=9, first=True), False),
        (SaveEveryBatches(2), DecisionContext(seconds=0, batches=2, epochs=0, first=False), True),
        (SaveEveryEpochs(1), DecisionContext(seconds=1e9, batches=99, epochs=0, first=True), False),
        (SaveEveryEpochs(1), DecisionContext(seconds=0, batches=0, epochs=1, first=False), True),
    ],
)
def test_due(policy, moment, due):
    """A save is due, or not, at a few moments chosen by hand."""
    assert policy.should_save(moment) is due
