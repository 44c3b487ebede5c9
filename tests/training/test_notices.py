"""A notice in each phase of a training, and at random times: nothing is lost, nothing hangs."""

from __future__ import annotations

import random
import signal
import threading
import time

import keras
import pytest

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.read.documents import read_head
from keepfit.callbacks.checkpoint.read.reader import read_checkpoint
from keepfit.callbacks.engine import preemption, session
from keepfit.callbacks.engine.preemption import Notice
from keepfit.callbacks.errors import Preempted
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.storage import open_store
from keepfit.job.notices import signals
from keepfit.job.notices.deadline import watch_deadline
from tests.training.trainings import (
    BATCHES,
    SEED,
    USUAL,
    GiveNotice,
    HookAction,
    assert_same,
    attempt,
    fitted,
    outcome,
    resumable,
    set_seed,
    usual,
)

PHASES = {
    "before the first batch": ("on_train_batch_begin", 1),
    "mid-epoch": ("on_train_batch_end", BATCHES + 2),
    "validation": ("on_test_batch_end", 2),
    "epoch end": ("on_epoch_end", 1),
    "after the last batch": ("on_epoch_end", 3),
    "at the end": ("on_train_end", 1),
}


def give_spot_notice(seconds):
    """Give notice and request a save, as the watcher does for a Spot notice."""
    current = preemption.current()
    current.give_notice(Notice("spot", time.monotonic() + seconds, training_allowed=True))
    current.request_save()


class GiveSpotNotice(HookAction):
    """A callback that gives a Spot notice with `seconds` left."""

    def __init__(self, seconds: float, hook: str, number: int) -> None:
        super().__init__(hook, number)
        self.seconds = seconds

    def act(self) -> None:
        give_spot_notice(self.seconds)


@pytest.mark.parametrize("phase", PHASES)
def test_no_time_is_left(tmp_path, phase):
    """With less time than a save may take, it saves and exits; the next attempt ends the same."""
    with pytest.raises(Preempted) as caught:
        attempt(USUAL, tmp_path, GiveSpotNotice(4, *PHASES[phase]))
    assert caught.value.saved
    assert_same(attempt(USUAL, tmp_path), usual())


@pytest.mark.parametrize("phase", PHASES)
def test_enough_time_is_left(tmp_path, phase):
    """It saves at once, and trains to its end with an unchanged result."""
    ended = attempt(USUAL, tmp_path, GiveSpotNotice(3600, *PHASES[phase]))
    at_once = 0 if PHASES[phase] == PHASES["at the end"] else 1
    at_once -= PHASES[phase] == PHASES["after the last batch"]
    assert len(ended.named(events.SAVED)) == at_once + 1
    assert_same(ended, usual())


def test_a_signal_after_a_notice(tmp_path):
    """A signal while training continues after a Spot notice ends it at the next batch."""
    with pytest.raises(Preempted) as caught:
        attempt(
            USUAL,
            tmp_path,
            GiveSpotNotice(3600, "on_train_batch_end", 2),
            GiveNotice("on_train_batch_end", 4),
        )
    assert (caught.value.step, caught.value.saved) == (4, True)
    assert_same(attempt(USUAL, tmp_path), usual())


def test_a_failing_last_save(tmp_path):
    """It exits all the same and counts the uncommitted steps; the run resumes from before them."""

    class BreakStore(HookAction):
        """A callback that lets later saves fail: a file replaces a folder of the store."""

        def act(self) -> None:
            for run in session.current()._runs.values():
                run.saves.wait()
            (tmp_path / "run/checkpoints").rename(tmp_path / "aside")
            (tmp_path / "run/checkpoints").write_text("no folder")

    with session.open_session() as opened, capture_logs() as logs:
        set_seed(SEED)
        model, held = USUAL.model(), USUAL.held()
        actions = [RequestSave("on_train_batch_end", 2), BreakStore("on_test_batch_begin", 1)]
        actions += [GiveNotice("on_train_batch_end", BATCHES + 3)]
        with pytest.raises(Preempted) as caught:
            fitted(USUAL, model, [resumable(tmp_path, [*held, *actions])])
    assert [log["step"] for log in logs if log["event"] == events.SAVED] == [2]
    assert (caught.value.step, caught.value.saved) == (BATCHES + 3, False)
    assert opened.uncommitted_steps == BATCHES + 1
    (tmp_path / "run/checkpoints").unlink()
    (tmp_path / "aside").rename(tmp_path / "run/checkpoints")
    assert_same(attempt(USUAL, tmp_path), usual())


class RequestSave(HookAction):
    """A callback that requests a save, like a rebalance recommendation or SIGUSR1."""

    def act(self) -> None:
        preemption.current().request_save()


@pytest.mark.parametrize(
    ("hook", "batches"), [("on_train_begin", 2), ("on_test_batch_begin", BATCHES + 2)]
)
def test_a_requested_save(tmp_path, hook, batches):
    """A save can be requested at any time; the checkpoints that follow are not affected."""
    notice = GiveSpotNotice(4, "on_train_batch_end", batches)
    with pytest.raises(Preempted):
        attempt(USUAL, tmp_path, RequestSave(hook, 1), notice)
    assert_same(attempt(USUAL, tmp_path), usual())


class Slow(keras.callbacks.Callback):
    """A callback that makes batches slow. It keeps no state."""

    def on_train_batch_end(self, batch, logs=None):
        threading.Event().wait(0.1)


def test_the_time_that_is_left_is_used(tmp_path):
    """It saves at once, trains on, and saves again some seconds before the deadline."""
    with capture_logs() as logs, session.open_session() as opened:
        set_seed(SEED)
        model, held = USUAL.model(), USUAL.held()
        notice = GiveSpotNotice(5.7, "on_train_batch_end", 2)
        with pytest.raises(Preempted) as caught:
            fitted(USUAL, model, [resumable(tmp_path, [*held, Slow(), notice])])
        assert (
            opened.preemption.deadline() - time.monotonic() < 5.7
        )  # how much less depends on the machine
    steps = [log["step"] for log in logs if log["event"] == events.SAVED]
    assert steps == [2, caught.value.step]
    assert steps[1] > 3
    assert_same(attempt(USUAL, tmp_path), usual())


class NoticeWhileSaving(keras.callbacks.Callback):
    """A callback that gives notice once a save is under way at a batch's end. It keeps no state."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def get_state(self):
        return None

    def set_state(self, state):
        pass

    def on_train_batch_end(self, batch, logs=None):
        current = session.current()
        if any(run.saves.busy for run in current._runs.values()) and not current.preemption.notice:
            give_spot_notice(self.seconds)


@pytest.mark.parametrize("seconds", [4, 3600])
def test_while_a_save_is_under_way(tmp_path, seconds):
    """The save under way is finished, and then a save of the current step follows."""
    set_seed(SEED)
    with session.open_session() as opened, capture_logs() as logs:
        model, held = USUAL.model(), USUAL.held()
        callback = resumable(tmp_path, [*held, NoticeWhileSaving(seconds)], save_every="1 batch")
        preempted = None
        try:
            fitted(USUAL, model, [callback])
        except Preempted as error:
            preempted = error
        assert opened.preemption.notice
    if seconds == 4:
        assert preempted.saved
        assert [log["step"] for log in logs if log["event"] == events.SAVED][-1] == preempted.step
    assert_same(attempt(USUAL, tmp_path), usual())


class Interruption:
    """An interruption of a random kind at a random time, from a thread of its own."""

    def __init__(self, rng: random.Random) -> None:
        self.kind = rng.choice(["SIGTERM", "SIGINT", "SIGUSR1", "now", "later", "late"])
        self._timer = threading.Timer(rng.uniform(0.0, 0.6), self._interrupt)

    def __enter__(self):
        self._state = preemption.current()
        self._timer.start()

    def __exit__(self, *error):
        while True:
            try:
                self._timer.cancel()
                self._timer.join()
                return
            except Preempted:  # the signal arrived just now
                continue

    def _interrupt(self):
        match self.kind:
            case "now":
                self._state.give_notice(Notice("now"))
            case "later" | "late":
                left = 5.2 if self.kind == "later" else 3600
                self._state.give_notice(
                    Notice("spot", time.monotonic() + left, training_allowed=True)
                )
                self._state.request_save()
            case name:
                signal.raise_signal(signal.Signals[name])


def interrupted_attempt(folder, interruption):
    """Make one attempt under the interruption. Return its outcome, or None if it was preempted."""
    try:
        with (
            session.open_session() as opened,
            signals.trap_signals(opened.preemption),
            watch_deadline(opened),
            interruption,
            capture_logs() as logs,
        ):
            set_seed(SEED)
            model, held = USUAL.model(), USUAL.held()
            fitted(USUAL, model, [resumable(folder, held, save_every="2 batches")])
            return outcome(model, held, logs)
    except Preempted:
        return None


@pytest.mark.parametrize(
    "attempts",
    [
        pytest.param(25, id="25"),
        pytest.param(500, id="500", marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
)
def test_interruptions_at_random_moments(tmp_path, attempts):
    """No attempt hangs or loses a committed checkpoint, and every run ends exactly."""
    rng = random.Random(5)
    done = interrupted = runs = step = 0
    while done < attempts:
        folder = tmp_path / str(runs)
        store = open_store(f"file://{folder}")
        ended = interrupted_attempt(folder, Interruption(rng))
        done += 1
        head = read_head(store, "run").head
        newest = head.checkpoints[0] if head and head.checkpoints else None
        reached = int(newest.rpartition("/")[2].split("-")[0]) if newest else 0
        assert reached >= step
        step = reached
        for key in head.manifests() if head else ():
            read_checkpoint(store, "run", key)  # raises if a byte differs from what was saved
        if ended is None:
            interrupted += 1
            continue
        assert_same(ended, usual())
        runs, step = runs + 1, 0
    assert interrupted > attempts / 4, "too few interruptions came before the end of the training"
