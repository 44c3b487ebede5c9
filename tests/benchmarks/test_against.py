"""The comparison of two commits by scripts/bench against."""

import subprocess

import pytest
import typer
from rich.console import Console

import against
import processes

STATE = {"bytes": 2**20, "cores": 2}


def record(stall, sent=0):
    """Return what a saving process has measured."""
    save = {"way": "keepfit", "stall": stall, "durable": 1.0, "cpu": 1.0, "sent": sent, "peak": 2}
    part = {"saved": [save], "calm": [{"batch": 0.1, "peak": 1}]}
    return {"way": "keepfit", **STATE, "quiet": part, "busy": part}


def records(before, after):
    """Return the records of both sides, as measured in a folder."""
    return {"saving file before": before, "saving file after": after}


def compared(before, after):
    """Return the comparisons by the name of their figure."""
    found = against.comparisons("saving", ["file"], records(before, after))
    return {one.figure: one for one in found}


def test_each_pair_has_a_ratio():
    """A machine that becomes slower during the measurement does not change the ratio."""
    before, after = [record(0.001), record(0.004)], [record(0.002), record(0.008)]
    stall = compared(before, after)["1 Training stall of a save"]
    assert stall.before == pytest.approx([1.0, 4.0])
    assert stall.ratios == pytest.approx([2.0, 2.0])


def test_a_figure_of_zero_has_no_ratio():
    """A process that sent nothing is no divisor, and the other pairs still count."""
    before = [record(0.001, sent=0), record(0.001, sent=2**20)]
    after = [record(0.001, sent=2**20), record(0.001, sent=2**19)]
    sent = compared(before, after)["6 Bytes sent, relative to the state"]
    assert (sent.before, sent.after, sent.ratios) == ([0.0, 1.0], [1.0, 0.5], [0.5])
    assert "6 Bytes sent, relative to the state" not in compared([record(1.0)], [record(1.0)])


def test_the_table_shows_medians_and_spread():
    """The ratio is shown with its least and its most, the measure of the noise."""
    before, after = [record(0.001)] * 3, [record(stall) for stall in (0.0005, 0.002, 0.003)]
    console = Console(width=150)
    with console.capture() as shown:
        console.print(against.table("saving", ["file"], records(before, after)))
    (row,) = (line for line in shown.get().splitlines() if "1 Training stall" in line)
    cells = [cell.strip() for cell in row.split("│")[2:-1]]
    assert cells == ["file", "ms", "1", "2", "2.00", "0.50", "3.00", "3"]


@pytest.mark.parametrize("stores", ["disk", "file,s3", ""])
def test_an_unknown_store_is_refused(stores):
    """A misspelled store is not measured as another one."""
    with pytest.raises(typer.BadParameter, match="file, S3"):
        against.named_stores(stores)


def test_the_other_commit_is_measured_with_its_own_package(tmp_path):
    """The package of the checkout is imported, not the installed one."""
    repository, folder = tmp_path / "repository", tmp_path / "checkout"
    for name, text in {
        "src/keepfit/__init__.py": "COMMIT = 'other'",
        "benchmarks/probe.py": "import json, keepfit\nprint(json.dumps(keepfit.COMMIT))",
    }.items():
        path = repository / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    folder.mkdir()
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for command in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *command], cwd=repository, check=True)
    root = against.checkout(repository, "HEAD", folder)
    (repository / "src/keepfit/__init__.py").write_text("COMMIT = 'changed since'")
    assert processes.measure("probe", root=root) == "other"


def test_a_failed_measurement_tells_why(tmp_path):
    """The exit code and the log, which a process prints on standard output, are in the message."""
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks/probe.py").write_text("print('event=refused')\nraise SystemExit(78)")
    with pytest.raises(SystemExit, match=r"(?s)event=refused.*exit code 78 of probe"):
        processes.measure("probe", root=tmp_path)
