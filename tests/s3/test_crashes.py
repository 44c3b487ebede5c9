"""Processes that are killed before and after any of their requests to S3."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from keepfit.callbacks.checkpoint.format.keys import head_key
from keepfit.callbacks.checkpoint.read.reader import read_checkpoint
from tests.checkpoint.samples import RUN, head_of, take_over
from tests.s3.proxy import at, kill_after, kill_before
from tests.s3.samples import assert_is_small, assert_resumes, small, unfinished
from tests.s3.victim import large_array

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def victims():
    """Return an object that starts processes that work on a store."""
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
    """Processes that work on a store, one at a time.

    Attributes:
        pid: process id of the one that runs.
    """

    def __init__(self, process):
        self._process = process
        self.pid = None

    def run(self, action, endpoint, store):
        """Return the exit code of a process that does `action`."""
        self._process.stdin.write(f"{action} {endpoint} {store.uri}\n")
        self._process.stdin.flush()
        self.pid = int(self._process.stdout.readline())
        return int(self._process.stdout.readline())

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)


def saved_twice(store):
    """Create a run with one committed checkpoint, at step 2."""
    attempt = take_over(store, keep=1)
    attempt.commit(small(1))
    attempt.commit(small(2))


def with_leftovers(store):
    """Create the same run, with objects and unfinished uploads of killed attempts."""
    saved_twice(store)
    for step in (7, 8):
        lost = take_over(store, keep=1)
        lost._swap = fail
        with pytest.raises(InterruptedError):
            lost.commit(small(step))
    for name in ("a", "b"):
        store._request("create_multipart_upload", f"{RUN}/shards/{name}")


def fail(**_):
    raise InterruptedError("killed before the swap")


ACTIONS = {"save": saved_twice, "sweep": with_leftovers}


def copied(source, store):
    """Copy the objects to another prefix, and begin as many unfinished uploads there."""
    for entry in source.list(""):
        found = {"Bucket": source._address.bucket, "Key": source._address.key(entry.key)}
        store._request("copy_object", entry.key, CopySource=found)
    for upload in source._request("list_multipart_uploads", "", Prefix=source._address.prefix).get(
        "Uploads", ()
    ):
        store._request(
            "create_multipart_upload", upload["Key"].removeprefix(source._address.prefix)
        )


@pytest.mark.parametrize(
    ("action", "every"),
    [
        pytest.param("save", 1, id="save"),
        pytest.param("sweep", 3, id="sweep, every third"),
        pytest.param("sweep", 1, id="sweep", marks=pytest.mark.soak),
    ],
)
def test_killed_at_a_request(action, every, victims, proxy, fresh, s3):
    """The newest committed checkpoint is resumed from; leftovers of the process are deleted."""
    before = fresh()
    ACTIONS[action](before)
    dry = fresh()
    copied(before, dry)
    proxy.arm()
    assert victims.run(action, proxy.url, dry) == 0
    requests = list(proxy.requests)
    assert len(requests) > 15
    check(dry, 3, s3)
    outcomes = []
    for number in range(0, len(requests), every):
        for kill in (kill_before, kill_after):
            store = fresh()
            copied(before, store)
            proxy.arm(at(number, kill(victims.kill)))
            assert victims.run(action, proxy.url, store) == -signal.SIGKILL, f"request {number}"
            proxy.wait_until_idle()
            outcomes.append(check(store, newest(store), s3))
    change = outcomes.index(3)
    assert outcomes == [2] * change + [3] * (len(outcomes) - change), "changed once"
    if every > 1:
        return
    asked = requests[change // 2]
    assert (asked.method, asked.path.rpartition("/")[2]) == ("PUT", "HEAD.json")
    assert change % 2, "the swap counts once S3 has carried it out, even if its answer is lost"


def newest(store):
    """Return the step of the checkpoint that HEAD names first."""
    return read_checkpoint(store, RUN, head_of(store).checkpoints[0]).manifest.position.step


def check(store, step, s3):
    """Assert that the next attempt resumes from `step` and leaves no orphans; return `step`."""
    assert_resumes(store, step, assert_is_either)
    assert unfinished(s3, store) == []
    assert list(store.list(head_key(RUN)))
    return step


def assert_is_either(checkpoint, step):
    """Assert that the checkpoint is what was saved at `step`, by this module or by the victim."""
    arrays = dict(checkpoint.arrays)
    if (table := arrays.pop("model/table", None)) is not None:
        assert table.tobytes() == large_array(step).tobytes()
        object.__setattr__(checkpoint, "arrays", arrays)
    assert_is_small(checkpoint, step)


def test_actions_send_all_kinds_of_requests(victims, proxy, fresh):
    """The actions send all kinds of writing requests: parts, conditions, deletions, aborts."""
    kinds = set()
    for action, prepare in ACTIONS.items():
        store = fresh()
        prepare(store)
        proxy.arm()
        assert victims.run(action, proxy.url, store) == 0
        kinds |= {kind_of(request) for request in proxy.requests}
    assert kinds >= {
        *("POST ?uploads", "PUT ?partNumber", "POST ?uploadId", "DELETE ?uploadId", "GET ?uploads"),
        *("PUT If-Match", "PUT If-None-Match", "DELETE", "GET"),
    }


def kind_of(request):
    """Return the method, with the query or header that distinguishes requests of this method."""
    for name in ("uploads", "partNumber", "uploadId"):
        if name in request.query:
            return f"{request.method} ?{name}"
    named = [name for name, _ in request.headers if name in ("If-Match", "If-None-Match")]
    return " ".join([request.method, *named])
