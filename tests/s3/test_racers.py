"""Ten processes want one run: it has one owner at any time, and nothing of it is destroyed."""

import subprocess
import sys
import uuid
from pathlib import Path

from callbacks.checkpoint.inspection import verify
from callbacks.errors import EXIT_FENCED
from callbacks.storage import open_store
from tests.checkpoint.samples import RUN, head_of, resume, take_over
from tests.s3.samples import assert_goes_on, assert_is_small

COUNT, ROUNDS = 10, 3


def start(uri):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.s3.racer", uri],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_one_of_ten_wins_each_commit(bucket):
    """All claim, in some order; then the last to claim commits, and every other is fenced off."""
    uri = f"{bucket}/{uuid.uuid4().hex}"
    store = open_store(uri)
    for number in range(ROUNDS):
        racers = [start(uri) for _ in range(COUNT)]
        claimed = {int(racer.stdout.readline()): racer for racer in racers}
        owner = (number + 1) * COUNT + number
        assert sorted(claimed) == list(range(owner - COUNT + 1, owner + 1)), "each number once"
        for racer in racers:
            racer.stdin.write("commit\n")
            racer.stdin.flush()
        said = {claim: racer.stdout.readline().strip() for claim, racer in claimed.items()}
        assert said == {claim: "committed" if claim == owner else "" for claim in claimed}
        for racer in racers:
            racer.stdin.close()
        codes = {claim: racer.wait() for claim, racer in claimed.items()}
        assert codes == {claim: 0 if claim == owner else EXIT_FENCED for claim in claimed}
        assert head_of(store).attempt == owner
        assert [finding.problem for finding in verify(store, RUN) if finding.problem] == []
        # The next round's attempts take over from one that goes on from what was committed.
        after = take_over(store)
        assert_is_small(resume(store, after), owner)
    assert_goes_on(store, owner)
