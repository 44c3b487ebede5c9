"""The protocol for callbacks that keep their own state over interruptions."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class StatefulCallback(Protocol):
    """A callback that decides by itself what is stored of it in a checkpoint.

    Give a callback both methods and put it into `Resumable([...])`. `get_state` is called at each
    save, `set_state` once in a resumed fit, after `on_train_begin` of all callbacks and before the
    first batch. Without these methods, keepfit stores the attributes that training has changed.

    These types are kept exactly, nested to any depth:

    - None, bool, int of any size, float (inf and nan included), complex, str, bytes;
    - list, tuple, set, frozenset, dict with keys of these types, Counter, OrderedDict;
    - NumPy scalars and arrays of the bool, integer, float (bfloat16 and float8 included) and
      complex types;
    - datetime, timedelta and pathlib paths are not kept: store their `isoformat()` or `str()`.

    Example:
        >>> class Streak(keras.callbacks.Callback):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.best, self.length = 0.0, 0
        ...
        ...     def get_state(self):
        ...         return {"best": self.best, "length": self.length}
        ...
        ...     def set_state(self, state):
        ...         self.best, self.length = state["best"], state["length"]
    """

    def get_state(self) -> Any:
        """Return the state now, of the types above. It may share arrays with the callback."""

    def set_state(self, state: Any) -> None:
        """Continue from a state that `get_state` returned in an earlier attempt."""
