"""The protocol for callbacks that keep their own state over interruptions."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class StatefulCallback(Protocol):
    """A callback that decides by itself what is stored of it in a checkpoint.

    Give a callback both methods and put it into `Resumable([...])`. `get_state` is called at each
    save, `set_state` once in a resumed fit, after `on_train_begin` of all callbacks and before the
    first batch. Without these methods, keepfit stores the attributes that training has changed.

    These types are kept, nested to any depth:

    - None, bool, int, float (inf and nan included), str and bytes;
    - list, tuple, set, frozenset, Counter, OrderedDict, and dict with keys of any of these types;
      any other mapping is restored as a dict;
    - NumPy arrays and scalars of bool, int8 to int64, uint8 to uint64, float16 to float64,
      complex64, and of ml_dtypes' bfloat16, float8_e4m3fn and float8_e5m2.

    Anything else (complex numbers, named tuples, dates, paths, objects) is reported in the log, and
    the callback starts over after an interruption: return `isoformat()` or `str()` of it instead.

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
