"""Which saved state belongs to which callback."""

from __future__ import annotations

import keras

from keepfit.callbacks import events
from keepfit.callbacks.adapters import held_callbacks
from tests.adapters.kept import restored, stored


class One(keras.callbacks.Callback):
    """Has a name."""

    def __init__(self, name=""):
        super().__init__()
        self.got = name

    def get_state(self):
        return self.got

    def set_state(self, state):
        self.got = state


class Other(One):
    """Is of another class."""


def exchange(old, new):
    """What the new callbacks have after they got the state of the old ones."""
    restored(held_callbacks.hold_callbacks(new), stored(held_callbacks.hold_callbacks(old)))
    return [callback.got for callback in new]


def test_by_order_within_a_class():
    """Two of a class are told apart by their order."""
    assert exchange([One("a"), One("b")], [One(), One()]) == ["a", "b"]


def test_classes_may_change_places():
    """The order between classes doesn't matter."""
    old = [One("a"), Other("b"), One("c")]
    assert exchange(old, [Other(), One(), One()]) == ["b", "a", "c"]


def test_extra_callback(logged):
    """A new callback begins anew, and the others keep theirs."""
    assert exchange([One("a")], [Other("new"), One(), One("second")]) == ["new", "a", "second"]
    assert logged == []


def test_missing_callback(logged):
    """State that nobody claims is logged, by class and number; the rest is restored."""
    assert exchange([Other("x"), One("a"), Other("y")], [One()]) == ["a"]
    (entry,) = logged
    assert entry["event"] == events.STATE_UNCLAIMED
    assert (entry["callback"], entry["count"]) == ("Other", 2)


def test_nothing_saved(logged):
    """Callbacks of a checkpoint without any keep what they have."""
    assert exchange([], [One("a")]) == ["a"]
    assert logged == []


def test_lost_state_is_not_the_next_one_s():
    """Where the first of two could not be stored, the second's state doesn't go to the first."""

    class Sometimes(keras.callbacks.Callback):
        def __init__(self, value):
            super().__init__()
            self.value = value

        def get_state(self):
            return self.value

        def set_state(self, state):
            self.value = state

    old = held_callbacks.hold_callbacks([Sometimes(object()), Sometimes("second")])
    new = [Sometimes("new"), Sometimes("new")]
    restored(held_callbacks.hold_callbacks(new), stored(old))
    assert [callback.value for callback in new] == ["new", "second"]
