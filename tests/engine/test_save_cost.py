"""The cost of saves to training, as measured at batch boundaries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.callbacks.engine.save_cost import SaveCostEstimator


class Training:
    """A simulated training of batches with given durations, and its estimator."""

    def __init__(self):
        self.estimator, self.now, self.epoch, self.step = SaveCostEstimator(), 0.0, 0, 0
        self.estimator.observe_boundary(0.0, 0, 0, busy=False)

    def batches(self, *seconds, busy=False):
        """Pass batches of these durations; return True if a save has ended in one of them."""
        ended = False
        for duration in seconds:
            self.now += duration
            self.step += 1
            ended |= self.estimator.observe_boundary(self.now, self.epoch, self.step, busy=busy)
        return ended

    def save(self, stall):
        self.now += stall
        self.estimator.save_started(self.now, stall)


@pytest.fixture
def training():
    """Return a training after ten batches of one second, the first one slower."""
    training = Training()
    training.batches(30, *[1] * 9)
    return training


def test_nothing_is_known_before_the_first_save(training):
    """The estimate is 0 until a save was measured."""
    assert training.estimator.cost == 0


def test_a_save_costs_its_stall_and_slower_batches(training):
    """The cost is the stall plus the extra time of the batches while the save was written."""
    training.save(0.2)
    assert training.estimator.cost == 0.2
    assert not training.batches(1.3, 1.1, busy=True)
    assert training.batches(1.0)
    assert training.estimator.cost == pytest.approx(0.6)


def test_a_save_that_slows_nothing_costs_its_stall(training):
    """The cost is at least the stall, even if the batches during the save were faster."""
    training.save(0.2)
    training.batches(0.9, 0.8, busy=True)
    training.batches(0.9)
    assert training.estimator.cost == pytest.approx(0.2)


def test_validation_and_epochs_are_no_cost(training):
    """Time between two epochs does not count as a cost of a save that is written meanwhile."""
    training.save(0.1)
    training.batches(1.1, busy=True)
    training.epoch, training.now = 1, training.now + 500
    training.estimator.observe_boundary(training.now, 1, training.step, busy=True)
    training.batches(7.0, 1.1, busy=True)
    training.batches(1.0)
    assert training.estimator.cost == pytest.approx(0.2, abs=0.11)


def test_one_slow_save_among_several_is_left_out(training):
    """The estimate is the median of the last few saves."""
    for slower in (0.1, 5.0, 0.1, 0.12, 0.1):
        training.save(0.0)
        training.batches(1 + slower)
        training.batches(1, 1)
    assert training.estimator.cost == pytest.approx(0.1)


@given(
    seconds=st.lists(st.floats(0.001, 100), min_size=3, max_size=30),
    stall=st.floats(0, 10),
    busy=st.integers(0, 20),
)
def test_bounds(seconds, stall, busy):
    """The cost is at least the stall, and at most the stall plus the time of writing."""
    training = Training()
    training.batches(*seconds)
    training.save(stall)
    began = training.now
    training.batches(*seconds[:busy], busy=True)
    assert training.batches(1.0)
    cost = training.estimator.cost
    assert stall <= cost <= stall + training.now - began
