"""Processes that are killed before, or in the middle of, any of their file operations."""

import os
import shutil
import signal
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from keepfit.callbacks.checkpoint.commit.attempt import Superseded
from keepfit.callbacks.checkpoint.commit.claim import move_aside
from keepfit.callbacks.checkpoint.read.reader import read_checkpoint
from keepfit.callbacks.storage.base import StorageError
from keepfit.callbacks.storage.local import LocalStore
from tests.checkpoint.samples import (
    RUN,
    assert_all_committed_verify,
    assert_is,
    assert_no_orphans,
    files_under,
    head_of,
    resume,
    snapshot,
    take_over,
    trained,
)
from tests.storage.faults import FaultyFiles, fail_with_io_error

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ASIDE = f"{RUN}.20260102T030405Z"


@dataclass
class Scenario:
    """The state on disk, what the process does first, and the action in which it is killed."""

    before: callable
    begin: callable
    act: callable


def resumed(store):
    """Return a new attempt that has resumed from the newest checkpoint."""
    attempt = take_over(store)
    resume(store, attempt)
    return attempt


def ended_at(step):
    """Return the final state of a fit at a step, with its continuation."""
    return replace(snapshot(step, finished=True), continuation=snapshot(step))


def continued(store):
    """Return a new attempt in which the finished fit trains on."""
    attempt = take_over(store)
    found = read_checkpoint(store, RUN, attempt.head.continuations[0])
    attempt.record_training_on(0)
    attempt.resume_from(found.key, found.manifest)
    return attempt


def with_leftovers(store):
    """Create a run in which killed attempts have left objects and temporary files."""
    trained(store, 1, 2, 3)
    for step in (8, 9):
        lost = take_over(store)
        lost._swap = fail
        with pytest.raises(StorageError):
            lost.commit(snapshot(step))
    for name in ("HEAD.json.1a", "shards/x.2b", "checkpoints/y.3c"):
        folder, _, file = f"run/{name}".rpartition("/")
        (store._root / folder / f".{file}.tmp").write_bytes(b"half")


def fail(**_):
    raise StorageError("killed before the swap")


def start_over(store):
    """Move the run aside and claim a new one of the same name."""
    move_aside(store, RUN, NOW)
    take_over(store)


SCENARIOS = {
    "first claim": Scenario(lambda store: None, lambda store: None, lambda s, _: take_over(s)),
    "first commit": Scenario(take_over, resumed, lambda s, a: a.commit(snapshot(4))),
    "claim": Scenario(
        lambda store: trained(store, 3), lambda store: None, lambda s, _: take_over(s)
    ),
    "commit": Scenario(
        lambda store: trained(store, 3), resumed, lambda s, a: a.commit(snapshot(4))
    ),
    "commit that prunes": Scenario(
        lambda store: trained(store, 1, 2, 3), resumed, lambda s, a: a.commit(snapshot(4))
    ),
    "commit that ends a fit": Scenario(
        lambda store: trained(store, 1, 2, 3),
        resumed,
        lambda s, a: a.commit(snapshot(4, finished=True)),
    ),
    "commit that ends a fit and keeps its continuation": Scenario(
        lambda store: trained(store, 1, 2, 3),
        resumed,
        lambda s, a: a.commit(ended_at(4)),
    ),
    "fit that trains on": Scenario(
        lambda store: take_over(store).commit(ended_at(4)),
        continued,
        lambda s, a: a.commit(snapshot(5)),
    ),
    "baseline": Scenario(
        lambda store: trained(store, 1, 2, 3),
        resumed,
        lambda s, a: a.record_baseline({"0:log.csv": 3}),
    ),
    "sweep": Scenario(
        with_leftovers,
        lambda store: committed(store, 4),
        lambda s, a: a.sweep(),
    ),
    "move aside": Scenario(
        lambda store: trained(store, 1, 2, 3),
        lambda store: None,
        lambda s, _: start_over(s),
    ),
}


def committed(store, step):
    """Return an attempt that has resumed and has committed a checkpoint at this step."""
    attempt = resumed(store)
    attempt.commit(snapshot(step))
    return attempt


@pytest.fixture(params=SCENARIOS)
def scenario(request):
    """Return each scenario in turn."""
    return SCENARIOS[request.param]


def prepare(scenario, root):
    """Create the scenario's initial state in a new folder."""
    root.mkdir()
    scenario.before(LocalStore(root))


def steps_of(scenario, root):
    """Return the number of file operations of the action, found by a dry run."""
    files = FaultyFiles()
    store = LocalStore(root, files)
    context = scenario.begin(store)
    files.arm()
    scenario.act(store, context)
    return len(files.steps)


def killed(scenario, root, at):
    """Run the action in a child process, kill it before step `at`, and return its wait status."""
    if not (child := os.fork()):
        try:
            files = FaultyFiles()
            store = LocalStore(root, files)
            context = scenario.begin(store)
            files.arm(at)
            scenario.act(store, context)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]


def test_killed_at_any_moment(scenario, tmp_path):
    """HEAD's checkpoints stay intact, the next attempt resumes from the newest, and cleans up."""
    prepare(scenario, tmp_path / "before")
    shutil.copytree(tmp_path / "before", tmp_path / "dry")
    count = steps_of(scenario, tmp_path / "dry")
    assert count > 3
    outcomes = []
    for at in range(count):
        root = tmp_path / str(at)
        shutil.copytree(tmp_path / "before", root)
        assert killed(scenario, root, at) == signal.SIGKILL, f"step {at} of {count}"
        outcomes.append(check_and_resume(root))
        shutil.rmtree(root)
    first, last = outcomes[0], check_and_resume(tmp_path / "dry")
    change = next((i for i, o in enumerate(outcomes) if o != first), count)
    expected = [first] * change + [last] * (count - change)
    assert outcomes == expected, "the outcome changes once, in one atomic step"


def check_and_resume(root):
    """Check all that the next attempt does; return the step that it resumes from, or None."""
    store = LocalStore(root)
    try:
        named = head_of(store).checkpoints
    except StorageError:
        named = ()
    attempt = take_over(store)
    assert attempt.head.checkpoints == named
    found = resume(store, attempt)
    step = found.manifest.position.step if found else None
    if found:
        assert found.key == named[0], "the newest committed checkpoint"
        assert_is(found, step)
    else:
        assert not named
        assert_moved_run_is_complete(root)
    assert_all_committed_verify(store)
    attempt.commit(snapshot(20))
    attempt.sweep()
    again = take_over(store)
    assert_is(resume(store, again), 20)
    assert_all_committed_verify(store)
    assert_no_orphans(root)
    return step


def assert_moved_run_is_complete(root):
    """Assert that a run that was moved aside can be moved back and used."""
    if not (root / ASIDE).exists():
        return
    copy = root.with_name(f"{root.name}.aside")
    shutil.copytree(root / ASIDE, copy / RUN)
    store = LocalStore(copy)
    assert_is(resume(store, take_over(store)), 3)
    shutil.rmtree(copy)


def test_kill_points_include_half_written_files(tmp_path):
    """The kill points include a half-written file for every object, HEAD included."""
    files = FaultyFiles()
    trained(LocalStore(tmp_path, files), 1)
    halves = {path.name.split(".")[1] for action, path in files.steps if action.startswith("half")}
    assert "HEAD" in halves
    assert len([a for a, _ in files.steps if a == "write"]) == len(
        [a for a, _ in files.steps if a.startswith("half")]
    )
    assert len(halves) >= len(files_under(tmp_path / RUN))


def test_operation_that_fails_at_any_moment(tmp_path):
    """When the disk fails one operation, the commit fails or succeeds, and the next one works."""
    prepare(SCENARIOS["commit that prunes"], tmp_path / "before")
    shutil.copytree(tmp_path / "before", tmp_path / "dry")
    count = steps_of(SCENARIOS["commit that prunes"], tmp_path / "dry")
    fenced = {}
    for at in range(count):
        root = tmp_path / str(at)
        shutil.copytree(tmp_path / "before", root)
        try:
            check_failing_operation(root, at)
        except Superseded as error:
            fenced[at] = str(error)
        shutil.rmtree(root)
    assert not fenced, f"of {count} steps, these made the attempt believe that it was fenced"


def check_failing_operation(root, at):
    """Let step `at` of a commit fail, and check HEAD and the next commit."""
    files = FaultyFiles(fail_with_io_error)
    store = LocalStore(root, files)
    attempt = resumed(store)
    files.arm(at)
    try:
        attempt.commit(snapshot(4))
        expected = {4}
    except StorageError:
        expected = {3, 4}
    files.arm()
    newest = read_checkpoint(store, RUN, head_of(store).checkpoints[0])
    assert newest.manifest.position.step in expected
    assert_all_committed_verify(store)
    attempt.commit(snapshot(5))
    assert_all_committed_verify(store)
    assert_is(resume(store, take_over(store)), 5)
