"""What saves cost the training, as measured at batch boundaries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.callbacks.checkpoint.save_cost import SaveCostEstimator


class Training:
    """Batches of so many seconds, and a toll that follows them."""

    def __init__(self):
        self.toll, self.now, self.epoch, self.step = SaveCostEstimator(), 0.0, 0, 0
        self.toll.passes(0.0, 0, 0, busy=False)

    def batches(self, *seconds, busy=False):
        """Returns whether a save has ended with one of them."""
        ended = False
        for each in seconds:
            self.now += each
            self.step += 1
            ended |= self.toll.passes(self.now, self.epoch, self.step, busy=busy)
        return ended

    def save(self, stall):
        self.now += stall
        self.toll.begins(self.now, stall)


@pytest.fixture
def training():
    """Ten batches have gone by, each of a second, the first one slower."""
    training = Training()
    training.batches(30, *[1] * 9)
    return training


def test_nothing_is_known_before_the_first_save(training):
    """And nothing is invented."""
    assert training.toll.cost == 0


def test_a_save_costs_its_stall_and_slower_batches(training):
    """What the batches took longer while it was written, and the time before the first of them."""
    training.save(0.2)
    assert training.toll.cost == 0.2
    assert not training.batches(1.3, 1.1, busy=True)
    assert training.batches(1.0)
    assert training.toll.cost == pytest.approx(0.6)


def test_a_save_that_slows_nothing_costs_its_stall(training):
    """However much faster its batches happened to be."""
    training.save(0.2)
    training.batches(0.9, 0.8, busy=True)
    training.batches(0.9)
    assert training.toll.cost == pytest.approx(0.2)


def test_validation_and_epochs_are_no_cost(training):
    """What lies between two epochs has nothing to do with the save that is written meanwhile."""
    training.save(0.1)
    training.batches(1.1, busy=True)
    training.epoch, training.now = 1, training.now + 500
    training.toll.passes(training.now, 1, training.step, busy=True)
    training.batches(7.0, 1.1, busy=True)
    training.batches(1.0)
    assert training.toll.cost == pytest.approx(0.2, abs=0.11)


def test_one_slow_save_among_several_is_left_out(training):
    """The median of the last few counts."""
    for slower in (0.1, 5.0, 0.1, 0.12, 0.1):
        training.save(0.0)
        training.batches(1 + slower)
        training.batches(1, 1)
    assert training.toll.cost == pytest.approx(0.1)


@given(
    seconds=st.lists(st.floats(0.001, 100), min_size=3, max_size=30),
    stall=st.floats(0, 10),
    busy=st.integers(0, 20),
)
def test_bounds(seconds, stall, busy):
    """At least the stall; at most that and the time in which the save was written."""
    training = Training()
    training.batches(*seconds)
    training.save(stall)
    began = training.now
    training.batches(*seconds[:busy], busy=True)
    assert training.batches(1.0)
    cost = training.toll.cost
    assert stall <= cost <= stall + training.now - began
