"""Real drills of small scripts: identical, or what differs and why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keepfit.job.drill.attempts import Runner, Setting
from keepfit.job.drill.folders import Project
from keepfit.job.drill.instructions import Program, parse_limit
from keepfit.job.drill.moments import Kind
from keepfit.job.drill.rehearsal import Rehearsal, Result
from tests.drill import forked, scripts


def quiet(title, done, total):
    """Show no progress."""


def drill(folder, script, *kinds, until=None, **program):
    """Drill a script, whose processes are forked. Return the report."""
    project = folder / "project"
    project.mkdir()
    (project / "train.py").write_text(script)
    base = folder / "drill"
    base.mkdir()
    setting = Setting(
        base,
        Project(project),
        Program("train.py", **program),
        os.environ,
        parse_limit(until) if until else None,
    )
    report = Rehearsal(Runner(setting, forked.start), quiet, kinds or tuple(Kind)).rehearse()
    assert [path.name for path in project.iterdir()] == ["train.py"]
    return report


def results(report):
    return {row.moment: row.result for row in report.rows[2:]}


def check_identical(report):
    assert report.identical, [(row.moment, row.result, row.detail) for row in report.rows]


@pytest.mark.soak
def test_a_script_is_identical_after_each_interruption(tmp_path):
    """With two fits, validation, files of callbacks, and output."""
    report = drill(tmp_path, scripts.EXACT)
    check_identical(report)
    assert results(report) == dict.fromkeys(Kind, Result.IDENTICAL)


def test_a_fault_in_keepfit_is_found(tmp_path):
    """The drill is not blind: keepfit does not restore a part of the optimizer."""
    report = drill(tmp_path, scripts.FAULTY_KEEPFIT, Kind.WITHIN_EPOCH)
    assert results(report) == {Kind.WITHIN_EPOCH: Result.DIFFERS}
    assert "fit 1, epoch 1, history: loss" in report.rows[-1].detail


@pytest.mark.soak
def test_a_generator_of_the_script_differs(tmp_path):
    """It begins anew in each attempt that resumes; only these rows differ."""
    report = drill(tmp_path, scripts.OWN_GENERATOR)
    found = results(report)
    assert found[Kind.FIRST_BATCH] is Result.IDENTICAL
    assert found[Kind.WITHIN_EPOCH] is found[Kind.NOTICE] is Result.DIFFERS
    assert found[Kind.VALIDATION] is found[Kind.BETWEEN_FITS] is Result.ABSENT
    assert report.reproducible
    assert "a random generator of the script's own" in report.rows[3].cause


@pytest.mark.soak
def test_a_random_operation_in_a_layer_differs(tmp_path):
    """Its state is in TensorFlow's kernels."""
    report = drill(tmp_path, scripts.RANDOM_OPERATION, Kind.WITHIN_EPOCH, Kind.FIRST_BATCH)
    found = results(report)
    assert found == {Kind.FIRST_BATCH: Result.IDENTICAL, Kind.WITHIN_EPOCH: Result.DIFFERS}
    assert "in layer 'noise' (train.py, line " in report.rows[-1].cause
    assert "[random_state_hidden]" in report.rows[-1].cause


@pytest.mark.soak
def test_a_script_that_is_not_reproducible(tmp_path):
    """Its data differ in each process, so there is nothing to compare with."""
    report = drill(tmp_path, scripts.UNSEEDED)
    assert not report.reproducible
    assert "a generator without a seed" in report.rows[0].cause


@pytest.mark.soak
@pytest.mark.parametrize(
    ("until", "place"),
    [("29 batches", "fit 2, epoch 1, batch 5"), ("2 epochs", "fit 1, epoch 2, its end")],
)
def test_a_drill_that_ends_early(until, place, tmp_path):
    """All runs are compared at one batch, counted over all fits."""
    report = drill(tmp_path, scripts.EXACT, until=until)
    check_identical(report)
    assert report.until == place


@pytest.mark.soak
def test_a_fault_is_found_where_a_drill_ends_early(tmp_path):
    """It compares variables there as well."""
    report = drill(tmp_path, scripts.FAULTY_KEEPFIT, Kind.WITHIN_EPOCH, until="12 batches")
    assert results(report) == {Kind.WITHIN_EPOCH: Result.DIFFERS}


@pytest.mark.soak
def test_a_resumable_of_the_script(tmp_path):
    """Its callbacks are the same in plain Python, and its store is that of the drill."""
    script = (
        scripts.PRELUDE
        + """
from keepfit import Resumable
log = keras.callbacks.CSVLogger("log.csv")
held = [Resumable([log], store="file://./elsewhere")]
build().fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=held)
"""
    )
    report = drill(tmp_path, script, Kind.WITHIN_EPOCH)
    check_identical(report)
    assert not list(tmp_path.rglob("elsewhere"))


@pytest.mark.soak
def test_a_callback_that_writes_elsewhere_is_refused(tmp_path):
    """A drill never overwrites what a real training has written."""
    from keepfit.job.drill.rehearsal import CannotDrill

    script = (
        scripts.PRELUDE
        + """
held = [keras.callbacks.CSVLogger("/var/tmp/log.csv")]
build().fit(x, y, epochs=1, verbose=0, callbacks=held)
"""
    )
    with pytest.raises(CannotDrill, match=r"writes to /var/tmp/log.csv"):
        drill(tmp_path, script)
    assert not Path("/var/tmp/log.csv").exists()


@pytest.mark.soak
def test_the_command_as_a_whole(tmp_path):
    """With its own processes, and one document on standard output."""
    (tmp_path / "train.py").write_text(scripts.EXACT)
    command = [Path(sys.executable).with_name("keepfit"), "drill", "--json"]
    options = ["--at", Kind.DURING_SAVE, "--until", "1 epoch"]
    ended = subprocess.run(
        [*command, *options, "train.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    document = json.loads(ended.stdout)
    assert document["identical"]
    assert document["moments"][-1]["moment"] == "during a save"
    assert document["until"] == "fit 1, epoch 1, its end"
    assert document["folder"] is None
