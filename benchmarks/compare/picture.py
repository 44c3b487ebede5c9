"""The figures as bars, one panel a question."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from compare.figures import OURS, Answer, Found, answers
from compare.table import sizes, variables

mpl.use("Agg")
import matplotlib.pyplot as plt

INK, PALE = "#1f2937", "#d1d5db"
COLOURS = ("#dc2626", "#64748b", "#94a3b8", "#cbd5e1", "#a78bfa", "#0ea5e9", "#7dd3fc")
"""Ours first; families of peers in shades of one colour."""

SHOWN = (
    "1 Stall of training",
    "2 Training with a save every 10 s, over none",
    "3 Durable in S3 after, training",
    "4 Recovery, without imports",
    "5 Peak memory more, in states",
    "6 Bytes sent, in states",
    "6 CPU for a GiB",
)


def draw(found: Found, path: Path) -> None:
    """Write the picture, a PNG, to `path`."""
    given = answers(found)
    panels: list[Any] = [
        panel for name in SHOWN if (panel := [one for one in given if one.question.name == name])
    ]
    figure, axes = plt.subplots(3, 3, figsize=(15, 12), facecolor="white")
    methods = list(dict.fromkeys(run["method"] for run in found["saving"]))
    colours = dict(zip(methods, COLOURS, strict=False))
    spare = iter(axes.flat)
    for panel in panels:
        _bars(next(spare), panel, methods, colours)
    if found["exactness"]:
        _repeated(next(spare), found["exactness"], colours)
    if len(found["scale"]) > 1:
        _scale(next(spare), found)
    for axis in spare:
        axis.set_axis_off()
    handles = [plt.Rectangle((0, 0), 1, 1, color=colours[name]) for name in methods]
    figure.legend(handles, methods, loc="upper center", ncols=4, frameon=False, fontsize=11)
    figure.text(0.5, 0.005, found["machine"], ha="center", fontsize=8, color=INK, wrap=True)
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
        heights = [one.values.get(name, 0.0) * question.scale for one in panel]
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
    axis.set_xticks(range(len(panel)), [one.state.replace(", ", ",\n") for one in panel])
    _titled(axis, question.name, question.unit, question.goal)


def _repeated(axis: Any, found: Sequence[Found], colours: dict[str, str]) -> None:
    again = [one["trained"] - one["batches"] for one in found]
    bars = axis.barh(range(len(found)), again, color=[colours[one["method"]] for one in found])
    says = {True: "the same model", False: "another model"}
    axis.bar_label(
        bars, [f" {n}, {says[one['same_model']]}" for n, one in zip(again, found, strict=True)]
    )
    axis.set_xlim(0, max(again) * 1.6 + 1)
    axis.invert_yaxis()
    axis.set_yticks([])
    title = f"7 Batches trained again, of {found[0]['batches']}, after {found[0]['kills']} kills"
    _titled(axis, title, "", "what was not saved, and the same model")


def _scale(axis: Any, found: Found) -> None:
    by_size, by_number = sizes(found, "stall"), variables(found, "stall")
    axis.loglog(*_scaled(by_size), "o-", color=COLOURS[0], label="by size, GiB")
    if by_number:
        axis.loglog(*_scaled(by_number), "s--", color=COLOURS[5], label="by number of variables")
    axis.legend(frameon=False, fontsize=9)
    _titled(axis, "8 Stall of keepfit", "ms", "grows with variables, not with bytes")


def _scaled(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y * 1e3 for _, y in points]


def _titled(axis: Any, name: str, unit: str, goal: str) -> None:
    axis.set_title(f"{name}{', ' if unit else ''}{unit}", loc="left", fontsize=11, color=INK)
    if goal:
        axis.text(0, -0.2, f"goal: {goal}", transform=axis.transAxes, fontsize=8, color=INK)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color=PALE, linewidth=0.5)
    axis.set_axisbelow(True)
