"""Outcomes of runs, made up."""

from __future__ import annotations

from dataclasses import replace

from keepfit.job.drill.compare.outcome import Outcome
from keepfit.job.drill.traces import FitState


def state(fit=0, **changes):
    """Return the state of a fit with two epochs."""
    found = FitState(
        fit,
        "train.py:7",
        {"loss": ["3.0", "2.0"], "val_loss": ["3.5", "2.5"]},
        (0, 1),
        {"model/kernel": "a", "model/bias": "b", "optimizer/momentum": "c"},
        {"python": "p", "numpy": "n"},
    )
    return replace(found, **changes)


def outcome(*fits, **more):
    """Return the outcome of a run of these fits; of two of them by default."""
    ends = {each.fit: each for each in fits or (state(0), state(1))}
    files = {"log.csv": {"line 1": "x", "line 2": "y"}, "best.keras": {"config.json": "z"}}
    parts = {"ends": ends, "starts": ends, "files": files, "output": ("done",), **more}
    return Outcome(**parts)
