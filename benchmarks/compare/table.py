"""The figures as tables: ours, the best peer's, their ratio, and the goal."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from rich.table import Table

from compare.figures import Answer, Found, answers, slope, windows


def tables(found: Found) -> Iterator[Table]:
    """All that was measured."""
    yield _ratios(answers(found))
    yield _methods(answers(found))
    if costs := _costs(found):
        yield costs
    if found["exactness"]:
        yield _exactness(found["exactness"])
    if found["scale"]:
        yield _scale(found)


def _ratios(given: Sequence[Answer]) -> Table:
    table = _table("keepfit beside the best of its peers; ratios of medians")
    _columns(table, "question", "state", "keepfit", "best peer", "", "ratio", "goal", "")
    last = None
    for one in given:
        if one.best is None:
            continue
        name, theirs = one.best
        if last not in (None, one.question):
            table.add_section()
        table.add_row(
            _named(one) if one.question != last else "",
            one.state,
            _shown(one.ours * one.question.scale),
            _shown(theirs * one.question.scale),
            name,
            f"{one.ours / theirs:.3g}",
            one.question.goal,
            {True: "met", False: "missed", None: ""}[one.met],
        )
        last = one.question
    return table


def _methods(given: Sequence[Answer]) -> Table:
    methods = list(dict.fromkeys(name for one in given for name in one.values))
    table = _table("The same of every method")
    _columns(table, "question", "state", *methods)
    last = None
    for one in given:
        if last not in (None, one.question):
            table.add_section()
        table.add_row(
            _named(one) if one.question != last else "",
            one.state,
            *(
                _shown(one.values[name] * one.question.scale) if name in one.values else "–"
                for name in methods
            ),
        )
        last = one.question
    return table


def _costs(found: Found) -> Table | None:
    """What of the cost of saving is the S3 server's own, which runs on the same processors."""
    runs = [run for run in found["saving"] if "busy" in run]
    if not runs or runs[0]["busy"]["saved"][0]["server"] is None:
        return None
    table = _table(
        "2 Training with a save every 10 s, over none: without the S3 server's own share"
    )
    _columns(table, "method", *dict.fromkeys(run["state"] for run in runs))
    states = list(dict.fromkeys(run["state"] for run in runs))
    for method in dict.fromkeys(run["method"] for run in runs):
        cells = []
        for state in states:
            mine = [r for r in runs if (r["method"], r["state"]) == (method, state)]
            net = [window["net"] for window in windows(mine)]
            cells.append(f"{statistics.median(net):.3f}" if net else "–")
        table.add_row(method, *cells)
    table.caption = (
        "its CPU seconds, spread over all cores, are taken from each window; a real S3 has its own"
    )
    return table


def _exactness(found: Sequence[Found]) -> Table:
    job = f"{found[0]['batches']} batches, killed at the same {found[0]['kills']} random ones"
    table = _table(f"7 {job}; a save every 10")
    _columns(table, "method", "trained again", "same model", "same history")
    says = {True: "yes", False: "no", None: "–"}
    for one in found:
        table.add_row(
            one["method"],
            str(one["trained"] - one["batches"]),
            says[one["same_model"]],
            says[one["same_history"]],
        )
    return table


def _scale(found: Found) -> Table:
    table = _table("8 keepfit, by size and by number of variables")
    _columns(table, "", "stall, ms", "durable, s", "CPU, s")
    for one in found["scale"]:
        name = one["state"] if "state" in one else f"{one['variables']} variables"
        medians = (
            statistics.median(save[key] for save in one["saved"])
            for key in ("stall", "durable", "cpu")
        )
        stall, durable, cpu = medians
        table.add_row(name, f"{stall * 1e3:.2f}", f"{durable:.2f}", f"{cpu:.2f}")
    parts = []
    for points, unit in ((sizes(found, "stall"), "GiB"), (variables(found, "stall"), "variable")):
        if len(points) > 1:
            each = slope(points).each * 1e6
            parts.append(f"{each:.3g} µs of stall a {unit} more")
    table.caption = "; ".join(parts)
    return table


def sizes(found: Found, key: str) -> list[tuple[float, float]]:
    """GiB of state, and the median of ours when training stands still."""
    points = []
    for state in dict.fromkeys(run["state"] for run in found["saving"]):
        runs = [r for r in found["saving"] if (r["method"], r["state"]) == ("keepfit", state)]
        if "frozen" not in state:
            saved = [one[key] for run in runs for one in run["quiet"]["saved"]]
            points.append((runs[0]["bytes"] / 2**30, statistics.median(saved)))
    points += [
        (one["mib"] / 2**10, statistics.median(save[key] for save in one["saved"]))
        for one in found["scale"]
        if "mib" in one
    ]
    return points


def variables(found: Found, key: str) -> list[tuple[float, float]]:
    """The number of variables, and the median of ours."""
    return [
        (one["variables"], statistics.median(save[key] for save in one["saved"]))
        for one in found["scale"]
        if "variables" in one
    ]


def _named(one: Answer) -> str:
    return f"{one.question.name}{', ' if one.question.unit else ''}{one.question.unit}"


def _shown(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", caption_justify="left")


def _columns(table: Table, *names: str) -> None:
    words = {"question", "state", "best peer", "", "goal", "method", "same model", "same history"}
    for name in names:
        table.add_column(name, justify="left" if name in words else "right")
