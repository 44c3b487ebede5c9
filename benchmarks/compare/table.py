"""Show the figures as tables: keepfit's, the best peer's, their ratio, and the goal."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from rich.table import Table

from compare.figures import Answer, Record, answers, slope, windows


def tables(results: Record) -> Iterator[Table]:
    """Yield the tables of everything that was measured."""
    yield _ratios(answers(results))
    yield _methods(answers(results))
    if costs := _costs(results):
        yield costs
    if results["exactness"]:
        yield _exactness(results["exactness"])
    if results["scale"]:
        yield _scale(results)


def _ratios(answered: Sequence[Answer]) -> Table:
    table = _table("keepfit and its best peer; ratios of medians")
    _columns(table, "question", "state", "keepfit", "best peer", "", "ratio", "goal", "")
    last = None
    for answer in answered:
        if answer.best is None:
            continue
        name, best = answer.best
        if last not in (None, answer.question):
            table.add_section()
        table.add_row(
            _title(answer) if answer.question != last else "",
            answer.state,
            _format(answer.ours * answer.question.scale),
            _format(best * answer.question.scale),
            name,
            f"{answer.ours / best:.3g}",
            answer.question.goal,
            {True: "met", False: "missed", None: ""}[answer.met],
        )
        last = answer.question
    return table


def _methods(answered: Sequence[Answer]) -> Table:
    methods = list(dict.fromkeys(name for answer in answered for name in answer.values))
    table = _table("The figures of every method")
    _columns(table, "question", "state", *methods)
    last = None
    for answer in answered:
        if last not in (None, answer.question):
            table.add_section()
        scale, values = answer.question.scale, answer.values
        table.add_row(
            _title(answer) if answer.question != last else "",
            answer.state,
            *(_format(values[name] * scale) if name in values else "–" for name in methods),
        )
        last = answer.question
    return table


def _costs(results: Record) -> Table | None:
    """Return the cost of saving without the share of the S3 server on the same processors.

    None if the server did not run on this machine.
    """
    runs = [run for run in results["saving"] if "busy" in run]
    if not runs or runs[0]["busy"]["saved"][0]["server"] is None:
        return None
    table = _table(
        "2 Training with a save every 10 s, relative to none: without the S3 server's share"
    )
    _columns(table, "method", *dict.fromkeys(run["state"] for run in runs))
    states = list(dict.fromkeys(run["state"] for run in runs))
    for method in dict.fromkeys(run["method"] for run in runs):
        cells = []
        for state in states:
            of_method = [r for r in runs if (r["method"], r["state"]) == (method, state)]
            net = [window["net"] for window in windows(of_method)]
            cells.append(f"{statistics.median(net):.3f}" if net else "–")
        table.add_row(method, *cells)
    table.caption = (
        "its CPU seconds, spread over all cores, are subtracted from each window; "
        "real S3 uses no cores of this machine"
    )
    return table


def _exactness(jobs: Sequence[Record]) -> Table:
    title = f"{jobs[0]['batches']} batches, killed at the same {jobs[0]['kills']} random ones"
    table = _table(f"7 {title}; a save every 10")
    _columns(table, "method", "trained again", "same model", "same history")
    words = {True: "yes", False: "no", None: "–"}
    for job in jobs:
        table.add_row(
            job["method"],
            str(job["trained"] - job["batches"]),
            words[job["same_model"]],
            words[job["same_history"]],
        )
    return table


def _scale(results: Record) -> Table:
    table = _table("8 keepfit, by size and by number of variables")
    _columns(table, "", "stall, ms", "durable, s", "CPU, s")
    for record in results["scale"]:
        name = record["state"] if "state" in record else f"{record['variables']} variables"
        medians = (
            statistics.median(save[key] for save in record["saved"])
            for key in ("stall", "durable", "cpu")
        )
        stall, durable, cpu = medians
        table.add_row(name, f"{stall * 1e3:.2f}", f"{durable:.2f}", f"{cpu:.2f}")
    parts = []
    by_size, by_number = sizes(results, "stall"), variables(results, "stall")
    for points, unit in ((by_size, "GiB"), (by_number, "variable")):
        if len(points) > 1:
            each = slope(points).each * 1e6
            parts.append(f"{each:.3g} µs of stall for each additional {unit}")
    table.caption = "; ".join(parts)
    return table


def sizes(results: Record, key: str) -> list[tuple[float, float]]:
    """Return pairs of the state's size in GiB and keepfit's median of `key`, training paused."""
    points = []
    for state in dict.fromkeys(run["state"] for run in results["saving"]):
        runs = [r for r in results["saving"] if (r["method"], r["state"]) == ("keepfit", state)]
        if "frozen" not in state:
            values = [save[key] for run in runs for save in run["quiet"]["saved"]]
            points.append((runs[0]["bytes"] / 2**30, statistics.median(values)))
    points += [
        (record["mib"] / 2**10, statistics.median(save[key] for save in record["saved"]))
        for record in results["scale"]
        if "mib" in record
    ]
    return points


def variables(results: Record, key: str) -> list[tuple[float, float]]:
    """Return pairs of the number of variables and keepfit's median of `key`, training paused."""
    return [
        (record["variables"], statistics.median(save[key] for save in record["saved"]))
        for record in results["scale"]
        if "variables" in record
    ]


def _title(answer: Answer) -> str:
    unit = answer.question.unit
    return f"{answer.question.name}, {unit}" if unit else answer.question.name


def _format(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", caption_justify="left")


def _columns(table: Table, *names: str) -> None:
    texts = {"question", "state", "best peer", "", "goal", "method", "same model", "same history"}
    for name in names:
        table.add_column(name, justify="left" if name in texts else "right")
