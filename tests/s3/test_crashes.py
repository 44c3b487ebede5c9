"""A process killed before and after any request to S3."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from keepfit.callbacks.checkpoint.manifest import head_key
from keepfit.callbacks.checkpoint.reader import read_checkpoint
from tests.checkpoint.samples import RUN, head_of, take_over
from tests.s3.proxy import at, dies_after, dies_before
from tests.s3.samples import assert_goes_on, assert_is_small, small, unfinished
from tests.s3.victim import large_array

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def victims():
    """Starts processes that act on a store; each call gives how one ended."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.s3.victim"],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield Victims(process)
        process.stdin.close()


class Victims:
    """One process at a time.

    Attributes:
        pid: of the one that runs.
    """

    def __init__(self, process):
        self._process = process
        self.pid = None

    def run(self, act, endpoint, store):
        """The exit code of a process that does `act`."""
        self._process.stdin.write(f"{act} {endpoint} {store.uri}\n")
        self._process.stdin.flush()
        self.pid = int(self._process.stdout.readline())
        return int(self._process.stdout.readline())

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)


def saved_twice(store):
    """A run with one checkpoint in force, at step 2."""
    attempt = take_over(store, keep=1)
    attempt.commit(small(1))
    attempt.commit(small(2))


def littered(store):
    """The same, and what three killed attempts have left: objects, and uploads in parts."""
    saved_twice(store)
    for step in (7, 8):
        lost = take_over(store, keep=1)
        lost._swap = fail
        with pytest.raises(InterruptedError):
            lost.commit(small(step))
    for name in ("a", "b"):
        store._ask("create_multipart_upload", f"{RUN}/shards/{name}")


def fail(**_):
    raise InterruptedError("killed before the swap")


ACTS = {"save": saved_twice, "tidy": littered}


def copied(source, store):
    """The same objects under another prefix, and as many unfinished uploads."""
    for entry in source.list(""):
        found = {"Bucket": source._address.bucket, "Key": source._address.key(entry.key)}
        store._ask("copy_object", entry.key, CopySource=found)
    for upload in source._ask("list_multipart_uploads", "", Prefix=source._address.prefix).get(
        "Uploads", ()
    ):
        store._ask("create_multipart_upload", upload["Key"].removeprefix(source._address.prefix))


@pytest.mark.parametrize(
    ("act", "every"),
    [
        pytest.param("save", 1, id="save"),
        pytest.param("tidy", 3, id="tidy, every third"),
        pytest.param("tidy", 1, id="tidy", marks=pytest.mark.soak),
    ],
)
def test_killed_at_a_request(act, every, victims, proxy, fresh, s3):
    """What was committed last is resumed from, and what the killed one has left is cleared."""
    before = fresh()
    ACTS[act](before)
    dry = fresh()
    copied(before, dry)
    proxy.arm()
    assert victims.run(act, proxy.url, dry) == 0
    requests = list(proxy.requests)
    assert len(requests) > 15
    check(dry, 3, s3)
    outcomes = []
    for number in range(0, len(requests), every):
        for dies in (dies_before, dies_after):
            store = fresh()
            copied(before, store)
            proxy.arm(at(number, dies(victims.kill)))
            assert victims.run(act, proxy.url, store) == -signal.SIGKILL, f"request {number}"
            proxy.wait_until_all_left()
            outcomes.append(check(store, newest(store), s3))
    change = outcomes.index(3)
    assert outcomes == [2] * change + [3] * (len(outcomes) - change), "one atomic step, and once"
    if every > 1:
        return
    asked = requests[change // 2]
    assert (asked.method, asked.path.rpartition("/")[2]) == ("PUT", "HEAD.json")
    assert change % 2, "the swap counts when S3 has done it, whoever has heard of it"


def newest(store):
    """The step that HEAD names first."""
    return read_checkpoint(store, RUN, head_of(store).checkpoints[0]).manifest.position.step


def check(store, step, s3):
    """The next attempt goes on from there, and then there is nothing that no manifest names."""
    assert_goes_on(store, step, assert_is_either)
    assert unfinished(s3, store) == []
    assert list(store.list(head_key(RUN)))
    return step


def assert_is_either(checkpoint, step):
    """It is what was saved at `step`, by this module or by the victim."""
    arrays = dict(checkpoint.arrays)
    if (table := arrays.pop("model/table", None)) is not None:
        assert table.tobytes() == large_array(step).tobytes()
        object.__setattr__(checkpoint, "arrays", arrays)
    assert_is_small(checkpoint, step)


def test_the_acts_ask_for_everything(victims, proxy, fresh):
    """Among the requests are all kinds that write: parts, conditions, deletions, abortions."""
    kinds = set()
    for act, prepare in ACTS.items():
        store = fresh()
        prepare(store)
        proxy.arm()
        assert victims.run(act, proxy.url, store) == 0
        kinds |= {kind_of(request) for request in proxy.requests}
    assert kinds >= {
        *("POST ?uploads", "PUT ?partNumber", "POST ?uploadId", "DELETE ?uploadId", "GET ?uploads"),
        *("PUT If-Match", "PUT If-None-Match", "DELETE", "GET"),
    }


def kind_of(request):
    """The method, and what tells requests of one method apart."""
    for name in ("uploads", "partNumber", "uploadId"):
        if name in request.query:
            return f"{request.method} ?{name}"
    named = [name for name, _ in request.headers if name in ("If-Match", "If-None-Match")]
    return " ".join([request.method, *named])
