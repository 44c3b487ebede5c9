"""Attempts of one run that follow, overtake and interrupt each other."""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.commit.attempt import Superseded
from keepfit.callbacks.checkpoint.commit.claim import claim_run, move_aside
from keepfit.callbacks.checkpoint.format.head import Head
from keepfit.callbacks.checkpoint.format.keys import head_key
from keepfit.callbacks.checkpoint.read.reader import read_checkpoint, read_newest_usable
from keepfit.callbacks.checkpoint.retention import KeepNewest
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.storage.base import Conflict, StorageError, Transient
from keepfit.callbacks.storage.local import LocalStore
from tests.checkpoint.samples import (
    MEMORY,
    RUN,
    VERSIONS,
    assert_all_committed_verify,
    assert_is,
    assert_no_orphans,
    document_at,
    files_under,
    head_of,
    parsed,
    resume,
    snapshot,
    take_over,
    trained,
    write_document,
)
from tests.checkpoint.stores import FailingPut, Interrupting, LateSwap, UnclearSwap, Wrapped


def test_first_claim_creates_the_run(store):
    """The first claim of a run creates attempt 1, with nothing to resume from."""
    attempt = take_over(store)
    assert attempt.number == 1
    assert attempt.head.checkpoints == ()
    assert head_of(store) == attempt.head
    assert resume(store, attempt) is None


def test_commit_takes_effect_immediately(store):
    """HEAD names a new checkpoint first, and a reader finds the manifest that commit returned."""
    attempt = take_over(store)
    manifest = attempt.commit(snapshot(3, epoch=1, batch=2)).manifest
    assert manifest.versions == VERSIONS
    assert (manifest.position.epoch, manifest.position.batch) == (1, 2)
    assert datetime.fromisoformat(manifest.created).tzinfo == UTC
    found = read_newest_usable(store, RUN, head_of(store).checkpoints, fit=0)
    assert found.manifest == manifest
    assert_is(found, 3)


def test_newest_are_kept_and_the_rest_is_deleted(store, tmp_path):
    """After each commit exactly the newest `keep` checkpoints are stored, newest first in HEAD."""
    attempt = take_over(store, keep=2)
    for step in range(1, 6):
        attempt.commit(snapshot(step))
        steps = [
            read_checkpoint(store, RUN, key).manifest.position.step
            for key in head_of(store).checkpoints
        ]
        assert steps == [s for s in (step, step - 1) if s]
        assert_no_orphans(tmp_path)


def test_same_step_twice(store):
    """A checkpoint after the last batch and one at the end of the fit are two checkpoints."""
    attempt = take_over(store)
    attempt.commit(snapshot(5))
    attempt.commit(snapshot(5, finished=True))
    assert len(set(head_of(store).checkpoints)) == 2
    assert head_of(store).finished == {0: head_of(store).checkpoints[0]}


def test_finished_fits_are_kept(store, tmp_path):
    """The final checkpoint of each fit outlives those of later fits, whatever `keep` is."""
    attempt = take_over(store, keep=1)
    attempt.commit(snapshot(1, finished=True))
    attempt.commit(snapshot(2, fit=1, finished=True))
    for step in (3, 4, 5):
        attempt.commit(snapshot(step, fit=2))
    head = head_of(store)
    for fit, step in ((0, 1), (1, 2)):
        assert_is(read_checkpoint(store, RUN, head.finished[fit]), step)
    assert len(head.manifests()) == 3
    again = take_over(store, keep=1)
    assert again.head.finished == head.finished
    assert_all_committed_verify(store)
    assert_no_orphans(tmp_path)


def test_baseline_is_kept(store):
    """The sizes of the files before the run survive commits and later attempts."""
    attempt = take_over(store)
    attempt.record_baseline({"0:log.csv": 17})
    attempt.commit(snapshot(1))
    assert take_over(store).head.baseline == {"0:log.csv": 17}


def test_newer_claim_fences_the_older(store):
    """Later writes of the older attempt are refused; the error names the owner of the run."""
    older = trained(store, 1)
    newer = take_over(store)
    assert newer.number == older.number + 1
    before = head_of(store)
    for write in (
        lambda: older.commit(snapshot(2)),
        lambda: older.record_baseline({"log": 1}),
        lambda: older.commit(snapshot(3)),
    ):
        with pytest.raises(Superseded, match="attempt 2 owns the run now"):
            write()
        assert head_of(store) == before
    assert_all_committed_verify(store)
    newer.commit(snapshot(4))
    assert_is(resume(store, take_over(store)), 4)


def test_older_attempt_destroys_nothing(store):
    """A sweep of the older attempt deletes nothing of the newer one, whatever that has written."""
    trained(store, 1)
    older = take_over(store)
    resume(store, older)
    older.commit(snapshot(2))
    newer = take_over(store, keep=1)
    resume(store, newer)
    for step in (3, 4):
        newer.commit(snapshot(step))
    older.sweep()
    assert_all_committed_verify(store)


def test_older_attempt_that_never_committed_destroys_nothing(store):
    """It can't know what the newer attempt builds on, so its sweep deletes no committed object."""
    trained(store, 1)
    older = take_over(store, keep=1)
    resume(store, older)
    newer = take_over(store, keep=1)
    resume(store, newer)
    newer.commit(snapshot(2))
    with pytest.raises(Superseded):
        older.commit(snapshot(3))
    older.sweep()
    assert_all_committed_verify(store)


def test_older_attempt_that_was_overtaken_within_its_claim_destroys_nothing(store):
    """Even if a newer one has pruned what it claimed before it does anything, its sweep spares it.

    The newer attempt still needs the shard that is shared with the checkpoint that it has pruned.
    """

    class Overtaken(Wrapped):
        def swap(self, key, body, *, expected):
            version = self._store.swap(key, body, expected=expected)
            newer = take_over(store, keep=1)
            resume(store, newer)
            newer.commit(snapshot(2))
            return version

    trained(store, 1)
    older = take_over(Overtaken(store), keep=1)
    older.sweep()
    assert head_of(store).attempt == older.number + 1
    assert_all_committed_verify(store)


@pytest.mark.parametrize("before", [(), (100,)])
def test_sweep_after_a_commit_that_failed(store, before):
    """A shard that was sent only by a failed commit, and then deleted by a sweep, is sent again."""
    failing = FailingPut(store)
    attempt = trained(failing, *before)
    failing.arm(5)
    with pytest.raises(StorageError, match=r"checkpoints/"):
        attempt.commit(snapshot(1))
    attempt.sweep()
    attempt.commit(snapshot(2))
    assert_all_committed_verify(store)


def test_sweep_leaves_other_objects(store):
    """Logs, exports and a user's notes under the run stay, whatever their names look like."""
    attempt = trained(store, 1)
    names = ["artifacts/model-0001.keras", "artifacts/weights-1.json", "notes-0001.txt"]
    names += ["artifacts/shards/x-0001.safetensors", "artifacts/²-².x", "artifacts/events.1-1"]
    names += [f"shards/README-{'²'}.txt", "artifacts/checkpoints/0000000001-0001-0000.json"]
    for name in names:
        store.put(f"{RUN}/{name}", [b"mine"])
    attempt.sweep()
    attempt.commit(snapshot(2))
    left = {entry.key for entry in store.list(f"{RUN}/")}
    assert {f"{RUN}/{name}" for name in names} <= left


def test_sweep_leaves_other_runs(store):
    """A sweep deletes leftovers of this run only, not of a run whose name has the same prefix."""
    trained(store, 1)
    other = take_over(store, run=f"{RUN}2")
    other.commit(snapshot(5))
    before = files_under(store._root / f"{RUN}2")
    attempt = take_over(store)
    attempt.commit(snapshot(2))
    attempt.sweep()
    assert files_under(store._root / f"{RUN}2") == before


def test_claim_that_is_overtaken_tries_again(store):
    """A claim that is overtaken between read and swap becomes the attempt after the other one."""
    trained(store, 1)
    racing = Interrupting(store)
    racing.between = lambda: take_over(store)
    attempt = take_over(racing)
    assert attempt.number == 3
    assert head_of(store) == attempt.head


def test_claim_that_is_always_overtaken_gives_up(store):
    """Ten conflicts in a row are an error, not a livelock."""

    class Overtaken(Wrapped):
        swaps = 0

        def swap(self, key, body, *, expected):
            self.swaps += 1
            raise Conflict("another writer was first")

    overtaken = Overtaken(store)
    with pytest.raises(Conflict):
        take_over(overtaken)
    assert overtaken.swaps == 10


def test_claim_between_manifest_and_swap(store):
    """An attempt that is fenced in the middle of its commit does not change HEAD."""
    racing = Interrupting(store)
    older = trained(racing, 1)
    newer = []
    racing.between = lambda: newer.append(take_over(store))
    with pytest.raises(Superseded):
        older.commit(snapshot(2))
    assert_is(resume(store, newer[0]), 1)
    newer[0].commit(snapshot(3))
    newer[0].sweep()
    assert_no_orphans(store._root)


@pytest.mark.parametrize("content", [None, b"", b"{}"], ids=["removed", "empty", "other"])
def test_head_removed_or_damaged_while_an_attempt_runs(store, content):
    """No other attempt has written to the run, so this one writes HEAD anew and goes on."""
    attempt = trained(store, 1)
    replace_head(store, content)
    with capture_logs() as logs:
        attempt.commit(snapshot(2))
    assert [(log["event"], log["log_level"]) for log in logs] == [(events.HEAD_REPAIRED, "warning")]
    assert f"{store.uri}/{head_key(RUN)} is" in logs[0]["reason"]
    attempt.commit(snapshot(3))
    assert head_of(store) == attempt.head
    assert_is(resume(store, take_over(store)), 3)
    assert_all_committed_verify(store)
    assert_no_orphans(store._root)


@pytest.mark.parametrize("content", [None, b"", b"{}"], ids=["removed", "empty", "other"])
def test_head_removed_or_damaged_before_a_check(store, content):
    """The check of ownership writes HEAD anew, with the checkpoints that it had."""
    attempt = trained(store, 1, 2)
    before = head_of(store)
    replace_head(store, content)
    attempt.check()
    assert head_of(store).manifests() == before.manifests()
    assert head_of(store).swaps == before.swaps + 1
    attempt.commit(snapshot(3))
    assert_is(resume(store, take_over(store)), 3)


def replace_head(store, content):
    """Replace the content of HEAD; remove it if None."""
    store.delete(head_key(RUN))
    if content is not None:
        store.put(head_key(RUN), [content])


@pytest.mark.parametrize("content", [None, b"{}"], ids=["removed", "other"])
def test_head_removed_or_damaged_after_a_newer_attempt_has_written(store, content):
    """The newer attempt's objects show that it owns the run; it then writes HEAD anew itself."""
    older = trained(store, 1)
    newer = take_over(store)
    newer.commit(snapshot(2))
    replace_head(store, content)
    for write in (older.check, lambda: older.commit(snapshot(3))):
        with pytest.raises(Superseded, match="attempt 2 has written to the run"):
            write()
    newer.commit(snapshot(4))
    assert_is(resume(store, take_over(store)), 4)


def test_head_and_checkpoints_that_are_gone(store):
    """A run that was deleted is not begun again by the attempt that had it."""
    attempt = trained(store, 1)
    for entry in list(store.list(f"{RUN}/")):
        store.delete(entry.key)
    with pytest.raises(Superseded, match="the run was moved aside or deleted"):
        attempt.commit(snapshot(2))
    assert not list(store.list(head_key(RUN)))


@pytest.mark.parametrize("form", ["another run", "another version"])
def test_head_of_another_owner_is_not_damaged(store, form):
    """An intact HEAD that this keepfit can't use belongs to somebody: it is not overwritten."""
    attempt = trained(store, 1)
    path = store._root / head_key(RUN)
    fields = document_at(path)
    write_document(path, fields | ({"run": "else"} if form == "another run" else {"format": 2}))
    before = path.read_bytes()
    with pytest.raises(Superseded, match=r"is that of run 'else'|another version of keepfit"):
        attempt.commit(snapshot(2))
    assert path.read_bytes() == before


@pytest.mark.parametrize("failing", ["list", "swap"])
def test_head_that_can_not_be_written_anew(store, failing):
    """The attempt still owns the run as far as is known: the save fails, and a later one works."""

    class Failing(Wrapped):
        def list(self, prefix):
            return self._unless("list", lambda: self._store.list(prefix))

        def swap(self, key, body, *, expected):
            return self._unless("swap", lambda: self._store.swap(key, body, expected=expected))

        def _unless(self, name, action):
            if broken and name == failing:
                raise StorageError(f"no network for {name}")
            return action()

    broken = []
    attempt = trained(Failing(store), 1)
    store.delete(head_key(RUN))
    broken.append(True)
    with pytest.raises(Transient, match=f"can't be written anew: no network for {failing}"):
        attempt.check()
    broken.clear()
    attempt.commit(snapshot(2))
    assert_is(resume(store, take_over(store)), 2)
    assert_all_committed_verify(store)


def test_run_moved_aside_before_its_first_commit(store):
    """An attempt that has committed nothing does not take the new run's HEAD for its own."""
    older = take_over(store)
    aside = move_aside(store, RUN, datetime.now(UTC))
    with pytest.raises(Superseded, match=f"attempt {aside.attempt} owns the run now"):
        older.commit(snapshot(1))
    store.delete(head_key(RUN))  # as it is for a moment while a directory is moved
    with pytest.raises(Superseded, match=f"the run was moved aside to {aside.name}"):
        older.check()
    newer = claim_run(store, RUN, retention=KeepNewest(2), versions=VERSIONS, after=aside.attempt)
    assert newer.number == aside.attempt + 1
    assert newer.head.checkpoints == ()
    newer.commit(snapshot(1))
    newer.sweep()
    assert_no_orphans(store._root)


@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize("happens", [True, False])
def test_swap_without_an_answer(store, happens, blind):
    """The commit succeeds or fails; HEAD names a usable checkpoint, and the next commit works."""
    unclear = UnclearSwap(store)
    attempt = trained(unclear, 1, 2)
    unclear.arm(happens=happens, blind=blind)
    try:
        attempt.commit(snapshot(3))
        expected = 3
    except StorageError:
        expected = 3 if happens else 2
    assert (expected == 3) == happens
    found = read_newest_usable(store, RUN, head_of(store).checkpoints, fit=0)
    assert_is(found, expected)
    assert_all_committed_verify(store)
    unclear.blind = False
    for step in (4, 5):
        attempt.commit(snapshot(step))
        assert_is(read_newest_usable(store, RUN, head_of(store).checkpoints, fit=0), step)
    attempt.sweep()
    assert_all_committed_verify(store)
    assert_no_orphans(store._root)


def test_swap_that_is_carried_out_late(store):
    """An attempt recognizes its own request as its own, even when it is carried out late."""
    late = LateSwap(store)
    attempt = trained(late, 1)
    late.armed = True
    with pytest.raises(Transient):
        attempt.commit(snapshot(2))
    with suppress(StorageError):
        attempt.commit(snapshot(3))
    attempt.commit(snapshot(4))
    assert_is(read_newest_usable(store, RUN, head_of(store).checkpoints, fit=0), 4)
    assert_all_committed_verify(store)
    attempt.sweep()
    assert_no_orphans(store._root)


def test_end_of_a_fit_without_an_answer(store):
    """The final checkpoint of a fit stays recorded although the answer to its swap was lost."""
    unclear = UnclearSwap(store)
    attempt = trained(unclear, 1, keep=1)
    unclear.arm(happens=True, blind=True)
    with pytest.raises(StorageError):
        attempt.commit(snapshot(2, finished=True))
    unclear.blind = False
    for step in (3, 4):
        attempt.commit(snapshot(step, fit=1))
    head = head_of(store)
    assert list(head.finished) == [0]
    assert_is(read_checkpoint(store, RUN, head.finished[0]), 2)
    attempt.sweep()
    assert_all_committed_verify(store)
    assert_no_orphans(store._root)


def test_swap_that_happened_without_an_answer_is_a_success(store):
    """If reading back shows the attempt's own HEAD, the commit succeeds and logs nothing."""
    unclear = UnclearSwap(store)
    attempt = trained(unclear, 1)
    unclear.arm(happens=True)
    with capture_logs() as logs:
        attempt.commit(snapshot(2))
    assert logs == []
    assert head_of(store) == attempt.head


def test_swap_that_did_not_happen_is_transient(store):
    """If reading back shows the old HEAD, the error is Transient: the caller may try again."""
    unclear = UnclearSwap(store)
    attempt = trained(unclear, 1)
    unclear.arm(happens=False)
    with pytest.raises(Transient):
        attempt.commit(snapshot(2))
    assert head_of(store) == attempt.head


def test_swap_without_an_answer_and_a_newer_claim(store):
    """If reading back shows a newer attempt, this one is superseded, with or without an answer."""
    unclear = UnclearSwap(store)
    attempt = trained(unclear, 1)
    take_over(store)
    unclear.arm(happens=False)
    with pytest.raises(Superseded):
        attempt.commit(snapshot(2))


@pytest.mark.parametrize("happens", [True, False])
def test_put_that_fails(store, happens):
    """Whichever object can't be written, the last checkpoint stays and the next commit works."""
    failing = FailingPut(store)
    attempt = trained(failing, 1, 2)
    failing.arm(None)
    attempt.commit(snapshot(3))
    count, step = len(failing.puts), 3
    assert count == 5, "model, optimizer, state, data, and the manifest"
    for at in range(count):
        failing.arm(at, happens)
        with pytest.raises(StorageError):
            attempt.commit(snapshot(step + 1))
        assert_is(read_newest_usable(store, RUN, head_of(store).checkpoints, fit=0), step)
        assert_all_committed_verify(store)
        attempt.commit(snapshot(step := step + 1))
        assert_is(read_newest_usable(store, RUN, head_of(store).checkpoints, fit=0), step)
        assert_all_committed_verify(store)
    attempt.sweep()
    assert_all_committed_verify(store)
    assert_no_orphans(store._root)


def test_delete_that_fails_does_not_fail_the_commit(store):
    """A commit succeeds although the checkpoint that it replaces could not be deleted."""

    class Undeletable(Wrapped):
        def delete(self, key):
            raise StorageError(f"may not delete {key}")

    attempt = take_over(Undeletable(store), keep=1)
    attempt.commit(snapshot(1))
    with capture_logs() as logs:
        attempt.commit(snapshot(2))
    assert [(log["event"], log["log_level"]) for log in logs] == [(events.PRUNE_FAILED, "warning")]
    assert "may not delete run/checkpoints/" in logs[0]["reason"]
    assert_is(read_newest_usable(store, RUN, head_of(store).checkpoints, fit=0), 2)
    again = take_over(store, keep=1)
    again.commit(snapshot(3))
    again.sweep()
    assert_no_orphans(store._root)


def test_manifests_go_before_their_shards(store):
    """An interrupted deletion leaves shards without a manifest, never the reverse."""
    deleted = []

    class Recording(Wrapped):
        def delete(self, key):
            deleted.append(key)
            self._store.delete(key)

    attempt = take_over(Recording(store), keep=1)
    for step in (1, 2):
        attempt.commit(snapshot(step))
    kinds = [key.split("/")[1] for key in deleted]
    assert kinds == sorted(kinds)
    assert kinds.count("checkpoints") == 1
    assert kinds.count("shards") == 4


def test_unchanged_shards_are_not_sent_again(store):
    """A large group that has not changed is stored once for all its checkpoints."""
    counting = Wrapped(store)
    attempt = take_over(counting)
    first = attempt.commit(snapshot(1)).manifest
    assert len(counting.puts) == len(first.shards) + 1 == 6
    counting.puts.clear()
    second = attempt.commit(snapshot(2)).manifest
    assert len(counting.puts) == len(second.shards) == 5
    shared = {s.key for s in first.shards} & {s.key for s in second.shards}
    assert len(shared) == 1
    assert not shared & set(counting.puts)


def test_next_attempt_does_not_send_what_it_has_verified(store):
    """Shards that were resumed from are not sent again; without resuming, none is trusted."""
    trained(store, 1)
    counting = Wrapped(store)
    attempt = take_over(counting)
    resume(counting, attempt)
    attempt.commit(snapshot(2))
    assert len(counting.puts) == 5
    not_resumed = take_over(counting)
    counting.puts.clear()
    not_resumed.commit(snapshot(3))
    assert len(counting.puts) == 6


def test_move_aside_moves_the_whole_run(store):
    """The old run is complete under its dated name, and the run can be started over."""
    trained(store, 1, 2)
    before = files_under(store._root / RUN)
    aside = move_aside(store, RUN, datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC))
    assert (aside.name, aside.attempt) == ("run.20260506T070809Z", 2)
    assert files_under(store._root / aside.name) == before
    attempt = take_over(store)
    assert attempt.number == aside.attempt + 1, "an older attempt may still be alive"
    assert resume(store, attempt) is None
    assert parsed(Head, store.load(f"{aside.name}/HEAD.json")[0]).checkpoints


def test_move_aside_twice_in_a_second(store):
    """The second run gets the name of the next second."""
    moment = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
    names = []
    for step in (1, 2):
        trained(store, step)
        names.append(move_aside(store, RUN, moment).name)
    assert names == ["run.20260506T070809Z", "run.20260506T070810Z"]


def test_move_aside_of_a_missing_run(store):
    """A run that was never started can't be moved aside, nor can a prefix of a run's name."""
    trained(store, 1)
    assert move_aside(store, "ru", datetime.now(UTC)) is None
    assert move_aside(store, "other", datetime.now(UTC)) is None


def test_move_aside_fences_the_running_attempt(store):
    """An attempt whose run was moved aside stops, and writes nothing into the new run."""
    older = trained(store, 1)
    move_aside(store, RUN, datetime.now(UTC))
    newer = take_over(store)
    with pytest.raises(Superseded, match=f"attempt {newer.number} owns the run now"):
        older.commit(snapshot(2))
    assert head_of(store) == newer.head
    newer.commit(snapshot(1))
    older.sweep()
    assert_all_committed_verify(store)


def test_move_aside_while_the_older_attempt_commits(store):
    """Objects that the older attempt writes after the move are no checkpoints of the new run."""
    older = trained(store, 1)
    aside = move_aside(store, RUN, datetime.now(UTC))
    with pytest.raises(Superseded):
        older.commit(snapshot(2))
    newer = claim_run(store, RUN, retention=KeepNewest(2), versions=VERSIONS, after=aside.attempt)
    assert newer.number == aside.attempt + 1
    assert newer.head.checkpoints == ()
    newer.commit(snapshot(1))
    newer.sweep()
    assert_no_orphans(store._root)


def test_run_that_is_claimed_while_it_is_moved_aside_is_moved_again(store):
    """The attempt that was in between is fenced, and what it has committed is in the moved run."""

    class ClaimedMeanwhile(Wrapped):
        def move(self, source, target, *, replace):
            if not meanwhile:
                meanwhile.append(trained(store, 2))
            self._store.move(source, target, replace=replace)

    meanwhile = []
    trained(store, 1)
    aside = move_aside(ClaimedMeanwhile(store), RUN, datetime.now(UTC))
    assert head_of(store).checkpoints == ()
    with pytest.raises(Superseded):
        meanwhile[0].commit(snapshot(3))
    store.move(RUN, "other")
    store.move(aside.name, RUN)
    assert_is(resume(store, take_over(store)), 2)


def test_resume_from_drops_newer_checkpoints(store):
    """Checkpoints that were found to be unusable are removed from HEAD by the next commit."""
    trained(store, 1, 2, 3, keep=3)
    attempt = take_over(store, keep=3)
    keys = attempt.head.checkpoints
    attempt.resume_from(keys[1], read_checkpoint(store, RUN, keys[1]).manifest)
    attempt.commit(snapshot(4))
    assert head_of(store).checkpoints[1:] == keys[1:]
    assert keys[0] not in {entry.key for entry in store.list(f"{RUN}/")}


STEPS = st.sampled_from([1, 100])
"""Steps between two commits: after 1 the frozen weights are the same, after 100 they differ."""


class Attempts(RuleBasedStateMachine):
    """Two processes that claim, resume, commit, fail and sweep in any order on one run."""

    @initialize()
    def begin(self):
        self.folder = TemporaryDirectory(dir=MEMORY)
        self.store = LocalStore(Path(self.folder.name))
        self.failing = FailingPut(self.store)
        self.slots = {}
        self.step = 0
        self.newest = None
        self.committed = None
        self.verified = None

    @rule(slot=st.sampled_from("ab"), keep=st.integers(1, 2), resumes=st.booleans())
    def claims(self, slot, keep, resumes):
        attempt = take_over(self.failing, keep=keep)
        assert attempt.number == (self.newest.number if self.newest else 0) + 1
        if resumes:
            found = resume(self.store, attempt)
            assert (found.manifest.position.step if found else None) == self.committed
        self.slots[slot] = self.newest = attempt

    @precondition(lambda self: self.slots)
    @rule(slot=st.sampled_from("ab"), finished=st.integers(0, 4), steps=STEPS)
    def commits(self, slot, finished, steps):
        if attempt := self.slots.get(slot):
            self.step += steps
            captured = snapshot(self.step, finished=finished == 0)
            if attempt is self.newest:
                attempt.commit(captured)
                self.committed = self.step
            else:
                with pytest.raises(Superseded):
                    attempt.commit(captured)

    @precondition(lambda self: self.slots)
    @rule(slot=st.sampled_from("ab"), at=st.integers(0, 5), happens=st.booleans(), steps=STEPS)
    def fails_to_commit(self, slot, at, happens, steps):
        if attempt := self.slots.get(slot):
            self.step += steps
            self.failing.arm(at, happens)
            try:
                attempt.commit(snapshot(self.step))
                self.committed = self.step
            except (StorageError, Superseded):
                pass
            self.failing.arm(None)

    @precondition(lambda self: self.slots)
    @rule(slot=st.sampled_from("ab"))
    def sweeps(self, slot):
        if attempt := self.slots.get(slot):
            attempt.sweep()

    @invariant()
    def committed_checkpoints_verify(self):
        if getattr(self, "newest", None) and self.changed():
            assert_all_committed_verify(self.store)
            head = head_of(self.store)
            assert head == self.newest.head
            found = read_newest_usable(self.store, RUN, head.checkpoints, fit=0)
            assert (found.manifest.position.step if found else None) == self.committed

    def changed(self):
        """Return True if HEAD or the list of keys has changed since the last check.

        That is enough, as every other object is written once.
        """
        now = self.store.load(head_key(RUN)), tuple(self.store.list(f"{RUN}/"))
        before, self.verified = self.verified, now
        return before != now

    def teardown(self):
        if hasattr(self, "folder"):
            if self.newest:
                self.newest.commit(snapshot(self.step + 1))
                self.newest.sweep()
                assert_all_committed_verify(self.store)
                assert_no_orphans(Path(self.folder.name))
            self.folder.cleanup()


TestAttempts = Attempts.TestCase
TestAttempts.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)


def test_heads_are_never_equal(store):
    """No two contents of HEAD are equal, so that a version identifies one state of the run."""
    seen = []

    class Recording(Wrapped):
        def swap(self, key, body, *, expected):
            seen.append(body)
            return self._store.swap(key, body, expected=expected)

    for _ in range(2):
        attempt = take_over(Recording(store))
        attempt.record_baseline({})
        attempt.record_baseline({})
        attempt.commit(snapshot(1))
    assert len(set(seen)) == len(seen) == 8
    assert [parsed(Head, body).swaps for body in seen] == list(range(8))
