"""Input from the user's own Python code: a PyDataset, which Keras reads by batch index.

It has state of two kinds between epochs: the order that Keras draws with Python's `random` when an
epoch begins, and the attributes that its own `on_epoch_end` has changed, such as a shuffled list of
files, or the state of its own random generator. Both are captured at the beginning of the epoch,
which a resumed process reads once more. Threads and processes of Keras draw from a generator in an
order of their own; with them, only what the hooks draw is exact.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import CodeType
from typing import Any

import keras

from keepfit.callbacks import events
from keepfit.callbacks.adapters.base import FrozenState, State, capture
from keepfit.callbacks.adapters.user_callbacks import adapter_for_object
from keepfit.callbacks.adapters.values.generators import describe_generator
from keepfit.callbacks.checkpoint.format.state_schema import check_fields
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.training import random_state


class PyDatasetState:
    """The state of one fit's PyDataset; does nothing if the input is of another kind."""

    def __init__(self, dataset: Any, guard: ExactnessGuard, model: Any = None) -> None:
        """Follow the dataset of one fit, if it has one.

        Args:
            dataset: the dataset; None for input of another kind.
            guard: receives the exactness warnings.
            model: the model that is trained, whose variables a dataset may hold too.
        """
        self._dataset = dataset
        self._guard = guard
        self._adapter = None if dataset is None else adapter_for_object(dataset, guard, model)
        self._reported = False
        self._epoch: FrozenState | None = None
        self._after_batch: State | None = None

    @property
    def epoch(self) -> FrozenState | None:
        """The state at the beginning of the current epoch, frozen."""
        return self._epoch

    @property
    def after_batch(self) -> State | None:
        """The process's random state after the last batch, before `on_epoch_end` draws from it."""
        return self._after_batch

    def epoch_begins(self) -> None:
        """Capture the state at the beginning of an epoch, before its first batch is drawn."""
        if self._adapter:
            own = capture(self._adapter, self._dataset)
            if not self._reported:
                self._reported = True
                own()  # reports what can't be kept
                report_drawing_workers(self._dataset, self._guard)
            randomness = random_state.capture_random_state()
            self._epoch = lambda: {"randomness": randomness, "own": own()}
            self._after_batch = None

    def batch_ends(self) -> None:
        """Capture the random state after each batch."""
        if self._adapter:
            self._after_batch = random_state.capture_random_state()

    def check(self, epoch: object) -> None:
        """Check the state of an epoch's beginning from a store. Raises InvalidState."""
        if self._adapter is None or epoch is None:
            return
        state = check_fields(epoch, {"randomness": dict, "own": dict})
        random_state.check_random_state(state["randomness"])
        self._adapter.check(self._dataset, state["own"])

    def restore(self, epoch: State | None) -> None:
        """Restore the state from the beginning of the interrupted epoch."""
        self._epoch = None if epoch is None else lambda: epoch
        if self._adapter and epoch:
            self._adapter.set(self._dataset, epoch["own"])
            random_state.restore_random_state(epoch["randomness"])


def report_drawing_workers(dataset: Any, guard: ExactnessGuard) -> None:
    """Report a dataset whose workers draw from its own generators, in an order of their own."""
    if isinstance(dataset, keras.utils.PyDataset) and (
        dataset.workers > 1 or (dataset.workers > 0 and dataset.use_multiprocessing)
    ):
        used = set(_names_in_method(type(dataset), "__getitem__"))
        drawn = [n for n, value in vars(dataset).items() if n in used and _is_generator(value)]
        if drawn:
            guard.report(
                events.DATA_UNSAVABLE,
                input=type(dataset).__name__,
                attributes=drawn,
                reason="several workers draw from a generator of the dataset, in an order that "
                "differs from one run to the next, interrupted or not",
                fix="make a generator for each batch in __getitem__: "
                "np.random.default_rng([seed, epoch, index]); or use workers=1",
            )


def _is_generator(value: Any) -> bool:
    return describe_generator(value) is not None or isinstance(value, keras.random.SeedGenerator)


def _names_in_method(kind: type[Any], method: str) -> Iterator[str]:
    """Yield the names in the code of a method, and of the methods of its class that it calls."""
    methods, seen = [method], {method}
    for name in methods:
        function = inspect.unwrap(getattr(kind, name))
        pending: list[CodeType] = [function.__code__] if inspect.isfunction(function) else []
        for code in pending:
            pending.extend(const for const in code.co_consts if isinstance(const, CodeType))
            yield from code.co_names
            called = [n for n in code.co_names if n not in seen and _is_method(kind, n)]
            seen.update(called)
            methods.extend(called)


def _is_method(kind: type[Any], name: str) -> bool:
    return inspect.isfunction(inspect.getattr_static(kind, name, None))
