"""Make one measurement in a process: `python -m saves.child NAME NUMBER…` prints it as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import keras

from saves import small, stalls

MEASUREMENTS: Mapping[str, Callable[..., Any]] = {
    "none": stalls.none,
    "keras": stalls.keras_own,
    "keepfit": stalls.keepfit,
    "hooks": small.hooks,
    "many": small.many,
    "shuffled": small.shuffled,
}

if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    figures = MEASUREMENTS[sys.argv[1]](*map(int, sys.argv[2:]))
    print(json.dumps(figures))
