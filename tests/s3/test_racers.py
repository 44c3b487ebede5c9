"""Many processes that each believe to own the same run."""

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from keepfit.callbacks.checkpoint.read.inspection import verify
from keepfit.callbacks.checkpoint.read.reader import read_checkpoint
from tests.checkpoint.samples import RUN, head_of
from tests.s3.samples import assert_is_small, assert_resumes

REPOSITORY = Path(__file__).parents[2]
COUNT = 10


class Racers:
    """Processes that carry out the same orders at the same time."""

    def __init__(self, process):
        self._process = process
        self.left = COUNT

    def order(self, order):
        """Give an order to all processes that are left; return their results."""
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        results = [json.loads(self._process.stdout.readline()) for _ in range(self.left)]
        self.left -= sum(bool(result["fenced"]) for result in results)
        return results

    def end(self):
        """End the processes; return all exit codes."""
        self._process.stdin.close()
        return json.loads(self._process.stdout.readline())["codes"]


@contextmanager
def racers(store):
    """Start the processes; end them after the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.s3.racer", str(COUNT), store.uri],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield Racers(process)


def test_all_claim_and_the_last_one_commits(fresh):
    """Each claim is won by one process; of all commits, only the newest attempt's succeeds."""
    store = fresh()
    with racers(store) as racing:
        claimed = racing.order("claim")
        assert sorted(result["attempt"] for result in claimed) == list(range(1, COUNT + 1))
        results = {result["attempt"]: result for result in racing.order("commit")}
        assert results[COUNT]["commits"] == [1000 * COUNT]
        for attempt in range(1, COUNT):
            assert results[attempt]["commits"] == []
            assert results[attempt]["fenced"] == f"attempt {COUNT} owns the run now"
        (again,) = racing.order("commit")
        assert again["commits"] == [1000 * COUNT, 1000 * COUNT + 1]
        assert sorted(racing.end()) == [0] + [76] * (COUNT - 1)
    head = head_of(store)
    assert head.swaps == COUNT - 1 + 2, "only claims and commits have swapped HEAD"
    assert_verifies(store)


def test_all_claim_and_commit_as_fast_as_they_can(fresh):
    """In any interleaving no commit is lost or counted twice, and the newest attempt succeeds."""
    store = fresh()
    with racers(store) as racing:
        results = {result["attempt"]: result for result in racing.order("race 5")}
        codes = racing.end()
    assert sorted(results) == list(range(1, COUNT + 1))
    assert len(results[COUNT]["commits"]) == 5
    assert results[COUNT]["fenced"] is None
    assert codes.count(0) == sum(not result["fenced"] for result in results.values())
    assert codes.count(0) + codes.count(76) == COUNT
    for result in results.values():
        assert bool(result["fenced"]) == (len(result["commits"]) < 5)
    head = head_of(store)
    won = sum(len(result["commits"]) for result in results.values())
    assert head.swaps == COUNT - 1 + won, "each swap was won by one process, which has reported it"
    assert_verifies(store)


def assert_verifies(store):
    """Assert that HEAD names an intact checkpoint of the newest attempt, with no orphans."""
    head = head_of(store)
    assert head.attempt == COUNT
    found = read_checkpoint(store, RUN, head.checkpoints[0])
    step = found.manifest.position.step
    assert (found.manifest.attempt, step // 1000) == (COUNT, COUNT)
    assert_is_small(found, step)
    assert [finding.problem for finding in verify(store, RUN) if finding.problem] == []
    assert_resumes(store, step)
