"""The folders of a drill: a copy of the project, without what is not a part of it."""

from __future__ import annotations

import os

import pytest

from keepfit.job.drill.folders import (
    NotBelow,
    Project,
    RunFolder,
    TooLarge,
    linked_paths,
    prepare,
    stamp_of,
)


@pytest.fixture
def project(tmp_path):
    """A project with data, caches, checkpoints and an environment."""
    folder = tmp_path / "project"
    for name in (
        "train.py",
        "src/model.py",
        "data/train.csv",
        ".git/config",
        "runs/train/HEAD.json",
        "src/runs/kept.txt",
        "src/__pycache__/model.pyc",
        "env/pyvenv.cfg",
        "env/lib/module.py",
        "node_modules/x/index.js",
        "big/array.npy",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return Project(folder)


def names_in(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_a_copy_has_what_belongs_to_the_project(project, tmp_path):
    """No history, environment, cache or store."""
    stamps = project.copy_to(tmp_path / "copy")
    copied = {"train.py", "src/model.py", "data/train.csv", "src/runs/kept.txt", "big/array.npy"}
    assert names_in(tmp_path / "copy") == copied
    assert set(stamps) == copied
    assert all(stamps[name] == stamp_of(tmp_path / "copy" / name) for name in copied)


def test_a_linked_folder_is_not_copied(project, tmp_path):
    """The copy has a link to it, and what is in it counts as unchanged."""
    linked = Project(project.folder, linked_paths(project, [project.folder / "big"]))
    stamps = linked.copy_to(tmp_path / "copy")
    assert (tmp_path / "copy/big").readlink() == project.folder / "big"
    assert (tmp_path / "copy/big/array.npy").read_text() == "big/array.npy"
    assert "big/array.npy" not in stamps


def test_links_of_the_project_lead_to_the_same_places(project, tmp_path):
    """A relative one, too."""
    (tmp_path / "outside.csv").write_text("1")
    (project.folder / "data/outside.csv").symlink_to("../../outside.csv")
    (project.folder / "also").symlink_to("data")
    project.copy_to(tmp_path / "deep/copy")
    assert (tmp_path / "deep/copy/data/outside.csv").read_text() == "1"
    assert (tmp_path / "deep/copy/also/train.csv").read_text() == "data/train.csv"


def test_a_large_project_is_refused_with_its_largest_part(project):
    """And with the way out, which works."""
    (project.folder / "big/array.npy").write_bytes(bytes(5000))
    with pytest.raises(TooLarge, match=r"'big' is the largest part.*--link big"):
        project.check_size(4000)
    Project(project.folder, ("big",)).check_size(4000)


@pytest.mark.parametrize("path", ["..", ".", "/etc/hosts", "../other/train.py"])
def test_a_path_outside_of_the_project(path, project):
    """No copy would contain it."""
    with pytest.raises(NotBelow):
        project.relative(project.folder / path)


def test_a_path_by_another_name(project, tmp_path):
    """The folder may be reached by a link."""
    (tmp_path / "link").symlink_to(project.folder)
    assert Project(tmp_path / "link").relative(project.folder / "src/model.py") == "src/model.py"
    assert Project(project.folder).relative("src/../train.py") == "train.py"


def test_the_variables_of_an_attempt(project, tmp_path):
    """None of the run of another process; and a store of its own."""
    folder = RunFolder(tmp_path / "run", "project")
    present = {
        "KEEPFIT_STORE": "s3://real/runs",
        "KEEPFIT_RUN": "real",
        "AWS_BATCH_JOB_ID": "7",
        "PATH": "/bin",
        "PYTHONPATH": os.pathsep.join(["src", "", str(project.folder / "lib"), "/opt/lib"]),
    }
    found = folder.environment(present, project.folder)
    assert found["KEEPFIT_STORE"] == f"file://{tmp_path}/run/store"
    assert found["PATH"] == "/bin"
    assert found["AWS_EC2_METADATA_DISABLED"] == "true"
    assert not {"KEEPFIT_RUN", "AWS_BATCH_JOB_ID"} & set(found)
    work = str(folder.work)
    assert found["PYTHONPATH"].split(os.pathsep) == [f"{work}/src", work, f"{work}/lib", "/opt/lib"]


def test_all_runs_have_the_same_path(project, tmp_path):
    """What a script writes may contain it."""
    first, _ = prepare(tmp_path / "drill", project)
    first.path.rename(tmp_path / "drill/first")
    second, _ = prepare(tmp_path / "drill", project)
    assert second == first
    assert names_in(second.work) == names_in(tmp_path / "drill/first/project")
