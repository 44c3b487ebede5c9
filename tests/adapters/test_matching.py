"""The assignment of saved states to callbacks."""

from __future__ import annotations

import keras

from keepfit.callbacks import events
from keepfit.callbacks.adapters.held_callbacks import HeldCallbacks
from tests.adapters.kept import restore, stored


class One(keras.callbacks.Callback):
    """A callback with a state."""

    def __init__(self, name=""):
        super().__init__()
        self.value = name

    def get_state(self):
        return self.value

    def set_state(self, state):
        self.value = state


class Other(One):
    """A callback of another class."""


def transfer(old, new):
    """Return the states of the new callbacks after they were given those of the old ones."""
    restore(HeldCallbacks.hold(new), stored(HeldCallbacks.hold(old)))
    return [callback.value for callback in new]


def test_by_order_within_a_class():
    """Callbacks of the same class are told apart by their order."""
    assert transfer([One("a"), One("b")], [One(), One()]) == ["a", "b"]


def test_classes_may_change_places():
    """The order between classes does not matter."""
    old = [One("a"), Other("b"), One("c")]
    assert transfer(old, [Other(), One(), One()]) == ["b", "a", "c"]


def test_extra_callback(logged):
    """A new callback starts over, and the others keep their state."""
    assert transfer([One("a")], [Other("new"), One(), One("second")]) == ["new", "a", "second"]
    assert logged == []


def test_missing_callback(logged):
    """State without a callback is logged by class and count; the rest is restored."""
    assert transfer([Other("x"), One("a"), Other("y")], [One()]) == ["a"]
    (entry,) = logged
    assert entry["event"] == events.STATE_UNCLAIMED
    assert (entry["callback"], entry["count"]) == ("Other", 2)


def test_nothing_saved(logged):
    """Callbacks stay as they are if the checkpoint has no state of callbacks."""
    assert transfer([], [One("a")]) == ["a"]
    assert logged == []


def test_lost_state_keeps_its_place():
    """If the first state of two could not be stored, the second one does not go to the first."""

    class Sometimes(keras.callbacks.Callback):
        def __init__(self, value):
            super().__init__()
            self.value = value

        def get_state(self):
            return self.value

        def set_state(self, state):
            self.value = state

    old = HeldCallbacks.hold([Sometimes(object()), Sometimes("second")])
    new = [Sometimes("new"), Sometimes("new")]
    restore(HeldCallbacks.hold(new), stored(old))
    assert [callback.value for callback in new] == ["new", "second"]
