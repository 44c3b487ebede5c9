"""Draw the figures as bars, one panel a question."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from compare.figures import OURS, Answer, Record, answers
from compare.table import sizes, variables

mpl.use("Agg")
import matplotlib.pyplot as plt

INK, PALE = "#1f2937", "#d1d5db"
COLOURS = ("#dc2626", "#64748b", "#94a3b8", "#cbd5e1", "#a78bfa", "#0ea5e9", "#7dd3fc")
"""keepfit's first; families of peers have shades of one colour."""

SHOWN = (
    "1 Training stall of a save",
    "2 Training with a save every 10 s, relative to none",
    "3 Time to durable in S3, while training",
    "4 Recovery to the first batch, without imports",
    "5 Additional peak memory, relative to the state",
    "6 Bytes sent, relative to the state",
    "6 CPU time per GiB",
)
"""The questions that have a panel."""


def draw(results: Record, path: Path) -> None:
    """Write the picture, a PNG, to `path`."""
    answered = answers(results)
    panels: list[Any] = [
        panel for name in SHOWN if (panel := [a for a in answered if a.question.name == name])
    ]
    figure, axes = plt.subplots(3, 3, figsize=(15, 12), facecolor="white")
    methods = list(dict.fromkeys(run["method"] for run in results["saving"]))
    colours = dict(zip(methods, COLOURS, strict=False))
    free_axes = iter(axes.flat)
    for panel in panels:
        _bars(next(free_axes), panel, methods, colours)
    if results["exactness"]:
        _repeated(next(free_axes), results["exactness"], colours)
    if len(results["scale"]) > 1:
        _scale(next(free_axes), results)
    for axis in free_axes:
        axis.set_axis_off()
    handles = [plt.Rectangle((0, 0), 1, 1, color=colours[name]) for name in methods]
    figure.legend(handles, methods, loc="upper center", ncols=4, frameon=False, fontsize=11)
    figure.text(0.5, 0.005, results["machine"], ha="center", fontsize=8, color=INK, wrap=True)
    figure.tight_layout(rect=(0, 0.03, 1, 0.94))
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _bars(
    axis: Any, panel: Sequence[Answer], methods: Sequence[str], colours: dict[str, str]
) -> None:
    question = panel[0].question
    width = 0.85 / len(methods)
    floor = 1.0 if question.name.startswith("2") else 0.0
    for i, name in enumerate(methods):
        places = np.arange(len(panel)) + (i - (len(methods) - 1) / 2) * width
        heights = [answer.values.get(name, 0.0) * question.scale for answer in panel]
        axis.bar(places, [h - floor for h in heights], width, bottom=floor, color=colours[name])
        if name == OURS:
            for place, height in zip(places, heights, strict=True):
                axis.annotate(
                    f"{height:.3g}",
                    (place, height),
                    ha="center",
                    va="bottom",
                    fontsize=8,
                    color=colours[name],
                )
    if question.log:
        axis.set_yscale("log")
    axis.set_xticks(range(len(panel)), [answer.state.replace(", ", ",\n") for answer in panel])
    _set_title(axis, question.name, question.unit, question.goal)


def _repeated(axis: Any, jobs: Sequence[Record], colours: dict[str, str]) -> None:
    repeated = [job["trained"] - job["batches"] for job in jobs]
    bars = axis.barh(range(len(jobs)), repeated, color=[colours[job["method"]] for job in jobs])
    models = {True: "same model", False: "different model"}
    labels = [f" {n}, {models[job['same_model']]}" for n, job in zip(repeated, jobs, strict=True)]
    axis.bar_label(bars, labels)
    axis.set_xlim(0, max(repeated) * 1.6 + 1)
    axis.invert_yaxis()
    axis.set_yticks([])
    title = f"7 Batches trained again, of {jobs[0]['batches']}, after {jobs[0]['kills']} kills"
    _set_title(axis, title, "", "only batches since the last save, and the same model")


def _scale(axis: Any, results: Record) -> None:
    by_size, by_number = sizes(results, "stall"), variables(results, "stall")
    axis.loglog(*_scaled(by_size), "o-", color=COLOURS[0], label="by size, GiB")
    if by_number:
        axis.loglog(*_scaled(by_number), "s--", color=COLOURS[5], label="by number of variables")
    axis.legend(frameon=False, fontsize=9)
    _set_title(axis, "8 Training stall of keepfit", "ms", "grows with variables, not with bytes")


def _scaled(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y * 1e3 for _, y in points]


def _set_title(axis: Any, name: str, unit: str, goal: str) -> None:
    axis.set_title(f"{name}{', ' if unit else ''}{unit}", loc="left", fontsize=11, color=INK)
    if goal:
        axis.text(0, -0.2, f"goal: {goal}", transform=axis.transAxes, fontsize=8, color=INK)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color=PALE, linewidth=0.5)
    axis.set_axisbelow(True)
