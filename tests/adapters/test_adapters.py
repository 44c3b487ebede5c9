"""Each callback keeps all of its state and nothing of its configuration."""

import keras
import numpy as np

from keepfit.callbacks import events
from keepfit.callbacks.adapters.held_callbacks import HeldCallbacks
from keepfit.callbacks.adapters.registry import hold_callback
from keepfit.callbacks.adapters.user_callbacks import ChangedAttributesAdapter, StateMethodsAdapter
from keepfit.callbacks.checkpoint.format.codec import decode
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.logs.logger import capture_logs
from tests.adapters.kept import stored, transferred


def trained(callback):
    """Return the callback after a short fit."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 2)), np.ones(4), epochs=2, verbose=0, callbacks=[callback])
    return callback


class Custom(keras.callbacks.Callback):
    """A user's callback with configuration, state, and attributes that can't be kept."""

    def __init__(self, limit=3):
        super().__init__()
        self.limit = limit
        self.best = None
        self.seen = []
        self.sums = np.zeros(3)
        self.how = lambda: None
        self.handle = open(__file__)  # noqa: SIM115

    def train(self):
        self.best = 0.5
        self.seen.append((1, "a"))
        self.sums += 1
        self.epoch = 7


def kept(callback):
    """Return the state of the callback in a checkpoint."""
    arrays = {}
    (item,) = HeldCallbacks.hold([callback]).capture().encode(arrays, ExactnessGuard())
    return decode(item["state"], arrays.__getitem__)


def test_plain_callback_keeps_what_training_has_changed():
    """Attributes that were added or changed, also in place, are kept; unchanged ones are not."""
    callback = Custom()
    adapter = ChangedAttributesAdapter(callback)
    callback.train()
    found = adapter.get(callback)
    assert found.keys() == {"best", "seen", "sums", "epoch"}
    fresh = Custom(limit=9)
    adapter.set(fresh, found)
    assert (fresh.limit, fresh.best, fresh.seen, fresh.epoch) == (9, 0.5, [(1, "a")], 7)
    callback.sums += 1
    assert found["sums"].tolist() == [1, 1, 1], "a snapshot does not change with the callback"


def test_what_cannot_be_kept_is_named_once():
    """One line names it, with the way out; a function is no state."""
    callback = Custom()
    adapter = ChangedAttributesAdapter(callback)
    with capture_logs() as logs:
        adapter.get(callback)
        adapter.get(callback)
    (line,) = logs
    assert (line["event"], line["attributes"]) == (events.STATE_UNKNOWN, ["handle"])
    assert "get_state" in line["fix"]


def test_attribute_that_contains_itself_is_named():
    """An attribute that contains itself can't be kept, and does not stop training."""
    callback = keras.callbacks.Callback()
    callback.ring = []
    callback.ring.append(callback.ring)
    with capture_logs() as logs:
        assert ChangedAttributesAdapter(callback).get(callback) == {}
    assert [line["attributes"] for line in logs] == [["ring"]]


def test_own_methods_come_first():
    """get_state and set_state of a subclass of a known callback are used instead of its adapter."""

    class Own(keras.callbacks.EarlyStopping):
        def get_state(self):
            return {"mine": 1}

        def set_state(self, state):
            self.mine = state["mine"]

    own = Own()
    assert isinstance(hold_callback(own).adapter, StateMethodsAdapter)
    assert kept(own) == {"state": {"mine": 1}}


def test_state_that_cannot_be_stored_is_named():
    """The log names the callback, and training continues without its state."""

    class Bad(keras.callbacks.Callback):
        def get_state(self):
            return {"model": object()}

        def set_state(self, state):
            raise AssertionError

    with capture_logs() as logs:
        assert HeldCallbacks.hold([Bad()]).capture().encode({}, ExactnessGuard()) == [
            {"class": "Bad", "state": None}
        ]
    assert [(line["event"], line["callback"]) for line in logs] == [(events.STATE_LOST, "Bad")]


def test_state_goes_to_the_callback_of_its_class_and_order():
    """A callback that was added or removed does not affect the others."""
    first, second = keras.callbacks.EarlyStopping(), keras.callbacks.EarlyStopping()
    first.best, second.best = 1.0, 2.0
    plateau = keras.callbacks.ReduceLROnPlateau()
    saved = stored(HeldCallbacks.hold([first, plateau, second]))
    new = [
        Custom(),
        *(keras.callbacks.EarlyStopping() for _ in range(3)),
    ]
    with capture_logs() as logs:
        HeldCallbacks.hold(new).restore(saved)
    assert [getattr(callback, "best", None) for callback in new[1:]] == [1.0, 2.0, None]
    assert [line["event"] for line in logs] == [events.STATE_UNCLAIMED]


def test_configuration_is_never_restored():
    """A patience that the user has changed stays changed; the sign of min_delta is not state."""
    before = trained(keras.callbacks.EarlyStopping("loss", patience=5, min_delta=0.1))
    after = keras.callbacks.EarlyStopping("loss", patience=9, min_delta=0.1)
    transferred(HeldCallbacks.hold([before]), after)
    assert (after.patience, after.min_delta, after.best) == (9, 0.1, before.best)
