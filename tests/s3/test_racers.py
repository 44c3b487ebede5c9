"""Many processes that take themselves for the owner of one run."""

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from keepfit.callbacks.checkpoint.inspection import verify
from keepfit.callbacks.checkpoint.reader import read_checkpoint
from tests.checkpoint.samples import RUN, head_of
from tests.s3.samples import assert_goes_on, assert_is_small

REPOSITORY = Path(__file__).parents[2]
COUNT = 10


class Racers:
    """Processes that do the same at once."""

    def __init__(self, process):
        self._process = process
        self.left = COUNT

    def order(self, order):
        """What each of those that are left tells."""
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        told = [json.loads(self._process.stdout.readline()) for _ in range(self.left)]
        self.left -= sum(bool(one["fenced"]) for one in told)
        return told

    def end(self):
        """The exit codes of all."""
        self._process.stdin.close()
        return json.loads(self._process.stdout.readline())["codes"]


@contextmanager
def racers(store):
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
    """Each claim is won by one process; of all commits, only that of the newest attempt is."""
    store = fresh()
    with racers(store) as ten:
        claimed = ten.order("claim")
        assert sorted(one["attempt"] for one in claimed) == list(range(1, COUNT + 1))
        told = {one["attempt"]: one for one in ten.order("commit")}
        assert told[COUNT]["commits"] == [1000 * COUNT]
        for attempt in range(1, COUNT):
            assert told[attempt]["commits"] == []
            assert told[attempt]["fenced"] == f"attempt {COUNT} owns the run now"
        (again,) = ten.order("commit")
        assert again["commits"] == [1000 * COUNT, 1000 * COUNT + 1]
        assert sorted(ten.end()) == [0] + [76] * (COUNT - 1)
    head = head_of(store)
    assert head.swaps == COUNT - 1 + 2, "claims and commits, and no other swap was won"
    assert_verifies(store)


def test_all_claim_and_commit_as_fast_as_they_can(fresh):
    """Whatever comes between, no commit is lost or won twice, and the newest attempt ends well."""
    store = fresh()
    with racers(store) as ten:
        told = {one["attempt"]: one for one in ten.order("race 5")}
        codes = ten.end()
    assert sorted(told) == list(range(1, COUNT + 1))
    assert len(told[COUNT]["commits"]) == 5
    assert told[COUNT]["fenced"] is None
    assert codes.count(0) == sum(not one["fenced"] for one in told.values())
    assert codes.count(0) + codes.count(76) == COUNT
    for one in told.values():
        assert bool(one["fenced"]) == (len(one["commits"]) < 5)
    head = head_of(store)
    won = sum(len(one["commits"]) for one in told.values())
    assert head.swaps == COUNT - 1 + won, "each swap was won by one, who knows of it"
    assert_verifies(store)


def assert_verifies(store):
    """What is in force is the newest attempt's, whole, and nothing is left of the others."""
    head = head_of(store)
    assert head.attempt == COUNT
    found = read_checkpoint(store, RUN, head.checkpoints[0])
    step = found.manifest.position.step
    assert (found.manifest.attempt, step // 1000) == (COUNT, COUNT)
    assert_is_small(found, step)
    assert [finding.problem for finding in verify(store, RUN) if finding.problem] == []
    assert_goes_on(store, step)
