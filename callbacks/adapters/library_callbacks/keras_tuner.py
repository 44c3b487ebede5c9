"""The adapters of keras-tuner's callbacks, which a search adds to the `fit` of each trial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keepfit.callbacks.adapters.base import AttributeAdapter, State
from keepfit.callbacks.adapters.state_types import Number

TUNER_CALLBACK = AttributeAdapter(config=("tuner", "trial"))
"""It passes events on to the tuner, which saves its own state."""


@dataclass(frozen=True)
class SaveBestEpochAdapter(AttributeAdapter):
    """Adapter for SaveBestEpoch: the best value, and the weights that the tuner loads later."""

    def append_only(self, callback: Any) -> Mapping[str, int]:
        return {}

    def replaced(self, callback: Any) -> Sequence[str]:
        return [callback.filepath] if Path(callback.filepath).is_file() else []

    def may_write(self, callback: Any, path: str) -> bool:
        return bool(path == callback.filepath)

    def baseline(self, callback: Any) -> Mapping[str, int]:
        return {}

    @contextmanager
    def starting(self, callback: Any, baseline: Mapping[str, int]) -> Iterator[None]:
        yield

    @contextmanager
    def resuming(self, callback: Any, state: State, sizes: Mapping[str, int]) -> Iterator[None]:
        yield


SAVE_BEST_EPOCH = SaveBestEpochAdapter(
    state={"best_value": Number | None}, config=("objective", "filepath")
)
