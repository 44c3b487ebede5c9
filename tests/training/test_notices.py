"""A notice in each phase of a training, and at random moments: nothing is lost, nothing hangs."""

from __future__ import annotations

import random
import signal
import threading
import time

import keras
import pytest
from structlog.testing import capture_logs

from keepfit.callbacks import events, session
from keepfit.callbacks.checkpoint.reader import read_checkpoint, read_head
from keepfit.callbacks.errors import Preempted
from keepfit.callbacks.session import Notice
from keepfit.callbacks.storage import open_store
from keepfit.job.notices import signals
from keepfit.job.notices.deadline import watch_deadline
from tests.training.trainings import (
    BATCHES,
    SEED,
    USUAL,
    AtOneMoment,
    Moment,
    assert_same,
    attempt,
    fitted,
    outcome,
    resumable,
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


def give(seconds):
    """As the watcher does for a Spot notice."""
    here = session.current()
    here.give_notice(Notice("spot", time.monotonic() + seconds, training_allowed=True))
    here.request_save()


class Spot(AtOneMoment):
    """A notice that leaves so many seconds."""

    def __init__(self, seconds: float, hook: str, number: int) -> None:
        super().__init__(hook, number)
        self.seconds = seconds

    def act(self) -> None:
        give(self.seconds)


@pytest.mark.parametrize("phase", PHASES)
def test_no_time_is_left(tmp_path, phase):
    """Less than a save may take: it saves and leaves, and the next attempt ends as if alone."""
    with pytest.raises(Preempted) as left:
        attempt(USUAL, tmp_path, Spot(4, *PHASES[phase]))
    assert left.value.saved
    assert_same(attempt(USUAL, tmp_path), usual())


@pytest.mark.parametrize("phase", PHASES)
def test_time_enough(tmp_path, phase):
    """It saves, and trains to its end, which nothing has disturbed."""
    ended = attempt(USUAL, tmp_path, Spot(3600, *PHASES[phase]))
    at_once = 0 if PHASES[phase] == PHASES["at the end"] else 1
    at_once -= PHASES[phase] == PHASES["after the last batch"]
    assert len(ended.named(events.SAVED)) == at_once + 1
    assert_same(ended, usual())


def test_a_signal_after_a_notice(tmp_path):
    """Who stops the process while it trains on is obeyed at the next batch."""
    with pytest.raises(Preempted) as left:
        attempt(
            USUAL,
            tmp_path,
            Spot(3600, "on_train_batch_end", 2),
            Moment("on_train_batch_end", 4),
        )
    assert (left.value.step, left.value.saved) == (4, True)
    assert_same(attempt(USUAL, tmp_path), usual())


def test_a_last_save_that_fails(tmp_path):
    """It leaves all the same; how much is lost is known, and the run goes on from before that."""

    class Sabotage(AtOneMoment):
        def act(self) -> None:
            for run in session.current()._runs.values():
                run._writer.wait()
            (tmp_path / "run/checkpoints").rename(tmp_path / "aside")
            (tmp_path / "run/checkpoints").write_text("no folder")

    with session.open_session() as here, capture_logs() as logs:
        keras.utils.set_random_seed(SEED)
        model, held = USUAL.model(), USUAL.held()
        moments = [Ask("on_train_batch_end", 2), Sabotage("on_test_batch_begin", 1)]
        moments += [Moment("on_train_batch_end", BATCHES + 3)]
        with pytest.raises(Preempted) as left:
            fitted(USUAL, model, [resumable(tmp_path, [*held, *moments])])
    assert [log["step"] for log in logs if log["event"] == events.SAVED] == [2]
    assert (left.value.step, left.value.saved) == (BATCHES + 3, False)
    assert here.uncommitted_steps == BATCHES + 1
    (tmp_path / "run/checkpoints").unlink()
    (tmp_path / "aside").rename(tmp_path / "run/checkpoints")
    assert_same(attempt(USUAL, tmp_path), usual())


class Ask(AtOneMoment):
    """A rebalance recommendation, or SIGUSR1."""

    def act(self) -> None:
        session.current().request_save()


@pytest.mark.parametrize(
    ("hook", "batches"), [("on_train_begin", 2), ("on_test_batch_begin", BATCHES + 2)]
)
def test_a_save_that_is_asked_for(tmp_path, hook, batches):
    """Whenever that is; it takes nothing from the checkpoints that follow."""
    with pytest.raises(Preempted):
        attempt(USUAL, tmp_path, Ask(hook, 1), Spot(4, "on_train_batch_end", batches))
    assert_same(attempt(USUAL, tmp_path), usual())


class Slow(keras.callbacks.Callback):
    """Batches that take some time. Keeps no state."""

    def on_train_batch_end(self, batch, logs=None):
        threading.Event().wait(0.1)


def test_the_time_that_is_left_is_used(tmp_path):
    """A save at once, batches, and a second save some seconds before the end."""
    with capture_logs() as logs, session.open_session() as here:
        keras.utils.set_random_seed(SEED)
        model, held = USUAL.model(), USUAL.held()
        moment = Spot(5.7, "on_train_batch_end", 2)
        with pytest.raises(Preempted) as left:
            fitted(USUAL, model, [resumable(tmp_path, [*held, Slow(), moment])])
        assert here.deadline() - time.monotonic() < 5.7  # how much less is up to the machine
    steps = [log["step"] for log in logs if log["event"] == events.SAVED]
    assert steps == [2, left.value.step]
    assert steps[1] > 3
    assert_same(attempt(USUAL, tmp_path), usual())


class WhileSaving(keras.callbacks.Callback):
    """Gives notice as soon as a save is found to be under way. Keeps no state."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def get_state(self):
        return None

    def set_state(self, state):
        pass

    def on_train_batch_end(self, batch, logs=None):
        here = session.current()
        if any(run._writer.busy for run in here._runs.values()) and not here.notice:
            give(self.seconds)


@pytest.mark.parametrize("seconds", [4, 3600])
def test_while_a_save_is_under_way(tmp_path, seconds):
    """It is finished, and then comes the one of this moment."""
    keras.utils.set_random_seed(SEED)
    with session.open_session() as here, capture_logs() as logs:
        model, held = USUAL.model(), USUAL.held()
        kept = resumable(tmp_path, [*held, WhileSaving(seconds)], save_every="1 batch")
        left = None
        try:
            fitted(USUAL, model, [kept])
        except Preempted as leave:
            left = leave
        assert here.notice
    if seconds == 4:
        assert left.saved
        assert [log["step"] for log in logs if log["event"] == events.SAVED][-1] == left.step
    assert_same(attempt(USUAL, tmp_path), usual())


class Interruption:
    """Comes at a random moment, of a random kind, from a thread of its own."""

    def __init__(self, rng: random.Random) -> None:
        self.kind = rng.choice(["SIGTERM", "SIGINT", "SIGUSR1", "now", "later", "late"])
        self._timer = threading.Timer(rng.uniform(0.0, 0.6), self._come)

    def __enter__(self):
        self._here = session.current()
        self._timer.start()

    def __exit__(self, *error):
        while True:
            try:
                self._timer.cancel()
                self._timer.join()
                return
            except Preempted:  # it came just now
                continue

    def _come(self):
        match self.kind:
            case "now":
                self._here.give_notice(Notice("now"))
            case "later" | "late":
                left = 5.2 if self.kind == "later" else 3600
                self._here.give_notice(
                    Notice("spot", time.monotonic() + left, training_allowed=True)
                )
                self._here.request_save()
            case name:
                signal.raise_signal(signal.Signals[name])


def rehearsed(folder, interruption):
    """One attempt under it. Returns what it ended with, if it ended."""
    try:
        with (
            session.open_session() as here,
            signals.trap_signals(here),
            watch_deadline(here),
            interruption,
            capture_logs() as logs,
        ):
            keras.utils.set_random_seed(SEED)
            model, held = USUAL.model(), USUAL.held()
            fitted(USUAL, model, [resumable(folder, held, save_every="2 batches")])
            return outcome(model, held, logs)
    except Preempted:
        return None


@pytest.mark.parametrize(
    "rehearsals",
    [
        pytest.param(25, id="25"),
        pytest.param(500, id="500", marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
)
def test_interruptions_at_random_moments(tmp_path, rehearsals):
    """None hangs, none loses a checkpoint that was committed, and every run ends exactly."""
    rng = random.Random(5)
    done = interrupted = runs = step = 0
    while done < rehearsals:
        folder = tmp_path / str(runs)
        store = open_store(f"file://{folder}")
        ended = rehearsed(folder, Interruption(rng))
        done += 1
        head = read_head(store, "run").head
        newest = head.checkpoints[0] if head and head.checkpoints else None
        reached = int(newest.rpartition("/")[2].split("-")[0]) if newest else 0
        assert reached >= step
        step = reached
        for key in head.manifests() if head else ():
            read_checkpoint(store, "run", key)  # raises where a byte is not what was saved
        if ended is None:
            interrupted += 1
            continue
        assert_same(ended, usual())
        runs, step = runs + 1, 0
    assert interrupted > rehearsals / 4, "most of them were to come in time"
