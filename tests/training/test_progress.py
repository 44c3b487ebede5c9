"""The state machine of a fit, walked without Keras: every interruption returns to the same path."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.callbacks.training.phases import (
    Action,
    BatchEnds,
    Checkpointed,
    EpochBegins,
    EpochStart,
    Event,
    IllegalMove,
    Over,
    Progress,
    Replaying,
    Starting,
    Training,
    Validating,
)
from keepfit.callbacks.training.progress import advance


@dataclass(frozen=True)
class Epoch:
    """The shape of an epoch.

    Attributes:
        calls: number of batches of each call of the train function.
        runs_dry: Keras calls the train function once more, which finds no data.
        validation: number of validation batches; None for no validation.
    """

    calls: tuple[int, ...]
    runs_dry: bool
    validation: int | None


@dataclass(frozen=True)
class Save:
    """A state that could have been saved.

    Attributes:
        seen: number of entries of the trace that an attempt has made before it.
    """

    position: Checkpointed
    seen: int


@dataclass
class Fit:
    """Calls `advance` as Keras calls the hooks, and records what the user's code would see."""

    epochs: tuple[Epoch, ...]
    phase: object = field(default_factory=lambda: Starting(Progress()))
    trace: list[tuple[object, ...]] = field(default_factory=list)
    saves: list[Save] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    pending: Save | None = None

    def send(self, event):
        """Make a move, and capture the states that the controller would capture."""
        self.phase, actions = advance(self.phase, event)
        self.actions += actions
        if Action.START_EPOCH in actions:
            self.pending = self.capture()
        if Action.CAPTURE_BEFORE_VALIDATION in actions:
            self.pending = self.capture()
        if {Action.OFFER_EPOCH_START, Action.OFFER_VALIDATION} & {*actions} and self.pending:
            self.saves.append(self.pending)
        if Action.OFFER_SAVE in actions:
            self.saves.append(self.capture())
        return actions

    def capture(self) -> Save:
        phase = self.phase
        position = Checkpointed(
            phase.progress,
            begun=not isinstance(phase, Starting | EpochStart),
            exhausted=isinstance(phase, Training | Validating) and phase.exhausted,
        )
        return Save(position, len(self.trace))

    def see(self, *entry):
        if not isinstance(self.phase, Replaying):
            self.trace.append(entry)

    def run(self, first: int = 0):
        """Run the fit from epoch `first` to its end."""
        for number, epoch in enumerate(self.epochs[first:], first):
            self.pending = None
            self.send(EpochBegins(number))
            self.see("epoch", number)
            self.send(Event.EPOCH_HAS_BEGUN)
            self._train(number, epoch)
            if epoch.validation is not None:
                self.send(Event.VALIDATION_BEGINS)
                for batch in range(epoch.validation):
                    self.see("validation", number, batch)
                    self.send(Event.VALIDATION_BATCH_ENDS)
                self.send(Event.VALIDATION_ENDS)
            self.see("epoch end", number)
        self.send(Event.FIT_ENDS)
        return self

    def _train(self, number: int, epoch: Epoch):
        done = 0
        for batches in epoch.calls:
            self.see("batch begin", number, done)
            actions = self.send(Event.STEP_BEGINS)
            if Action.RETURN_SAVED_LOGS not in actions:
                self.trace.append(("step", number, done))
            done += batches
            self.see("batch end", number, done)
            self.send(BatchEnds(done))
            self.pending = None
        if epoch.runs_dry and Action.RAISE_END_OF_DATA not in self.send(Event.STEP_BEGINS):
            self.trace.append(("dry", number))
            self.send(Event.DATA_ENDS)


def resumed(epochs: tuple[Epoch, ...], save: Save) -> Fit:
    """Return the fit of an attempt that resumes from a saved state."""
    fit = Fit(epochs, Starting(Progress(), save.position))
    return fit.run(save.position.progress.epoch)


batches = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)
epochs = st.lists(
    st.builds(Epoch, batches, st.booleans(), st.none() | st.integers(0, 3)), min_size=1, max_size=4
).map(tuple)


@given(epochs)
def test_uninterrupted(epochs):
    """Every batch is counted once, and the final state is saved once."""
    fit = Fit(epochs).run()
    assert isinstance(fit.phase, Over)
    assert fit.phase.progress.step == sum(sum(epoch.calls) for epoch in epochs)
    assert fit.phase.progress.batch == sum(epochs[-1].calls)
    assert fit.phase.progress.calls == len(epochs[-1].calls)
    assert fit.actions.count(Action.SAVE_FINAL) == 1
    assert fit.actions.count(Action.OFFER_SAVE) == sum(len(epoch.calls) for epoch in epochs)
    assert not {Action.RESTORE, Action.RESTORE_DATA, Action.RETURN_SAVED_LOGS} & {*fit.actions}


@given(epochs, st.data())
def test_interrupted_anywhere(epochs, data):
    """From each state that can be saved, the rest of the training is seen once and in order."""
    whole = Fit(epochs).run()
    save, before = data.draw(st.sampled_from(whole.saves)), 0
    for _ in range(data.draw(st.integers(1, 4))):
        fit = resumed(epochs, save)
        assert fit.trace == whole.trace[before + save.seen :]
        assert fit.phase == whole.phase
        assert fit.actions.count(Action.RESTORE) == 1
        assert fit.actions.count(Action.SAVE_FINAL) == 1
        assert fit.actions.count(Action.RESTORE_DATA) == 1
        before += save.seen
        if not fit.saves:
            break
        save = data.draw(st.sampled_from(fit.saves))


@given(epochs, st.data())
def test_restored_in_order(epochs, data):
    """The data are restored before a batch is passed over; the random state after all of them."""
    save = data.draw(st.sampled_from(Fit(epochs).run().saves))
    fit = resumed(epochs, save)
    first = fit.actions.index
    assert first(Action.RESTORE) == 0
    if save.position.begun:
        assert first(Action.RESTORE_DATA) < first(Action.END_REPLAY)
        passed = fit.actions[: first(Action.END_REPLAY)]
        assert passed.count(Action.RETURN_SAVED_LOGS) == save.position.progress.calls
        assert passed.count(Action.OFFER_SAVE) == 0
    else:
        assert first(Action.RESTORE_RANDOM_STATE) == 1
        assert Action.RETURN_SAVED_LOGS not in fit.actions


EVENTS = [EpochBegins(1), BatchEnds(3), *Event]
PHASES = {
    "starting": Starting(Progress()),
    "resuming": Starting(Progress(), Checkpointed(Progress(1, 2, 2, 9), begun=True)),
    "epoch start": EpochStart(Progress(1)),
    "replaying": Replaying(Progress(1, 2, 2, 9), 1, 1, exhausted=False),
    "replayed": Replaying(Progress(1, 2, 2, 9), 2, 0, exhausted=True),
    "training": Training(Progress(1, 2, 2, 9)),
    "validating": Validating(Progress(1, 2, 2, 9)),
    "over": Over(Progress(1, 2, 2, 9)),
    "completed earlier": Over(Progress(1, 2, 2, 9), earlier=True),
}
OWN_VALIDATION = {
    Event.VALIDATION_BEGINS,
    Event.VALIDATION_BATCH_ENDS,
    Event.VALIDATION_ENDS,
}
LEGAL = {
    "starting": {EpochBegins(1), Event.ALREADY_DONE, Event.FIT_ENDS, *OWN_VALIDATION},
    "resuming": {EpochBegins(1), Event.ALREADY_DONE, Event.FIT_ENDS, *OWN_VALIDATION},
    "epoch start": {Event.EPOCH_HAS_BEGUN, Event.FIT_ENDS, *OWN_VALIDATION},
    "replaying": {
        BatchEnds(3),
        Event.EPOCH_HAS_BEGUN,
        Event.STEP_BEGINS,
        Event.FIT_ENDS,
        *OWN_VALIDATION,
    },
    "replayed": {
        BatchEnds(3),
        Event.EPOCH_HAS_BEGUN,
        Event.STEP_BEGINS,
        Event.FIT_ENDS,
        *OWN_VALIDATION,
    },
    "training": {
        EpochBegins(1),
        BatchEnds(3),
        Event.STEP_BEGINS,
        Event.DATA_ENDS,
        Event.VALIDATION_BEGINS,
        Event.FIT_ENDS,
    },
    "validating": {Event.VALIDATION_BATCH_ENDS, Event.VALIDATION_ENDS, Event.SAVE_SUBMITTED},
    "over": {*OWN_VALIDATION},
    "completed earlier": {Event.FIT_ENDS, *OWN_VALIDATION},
}


@pytest.mark.parametrize("name", PHASES)
@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_legal_and_illegal_moves(name, event):
    """Each pair of phase and event either is a move of Keras or raises."""
    phase = PHASES[name]
    if event not in LEGAL[name]:
        with pytest.raises(IllegalMove, match=type(phase).__name__):
            advance(phase, event)
        return
    after, _ = advance(phase, event)
    assert after.progress.step >= phase.progress.step


def test_a_fit_that_is_stopped_while_it_replays():
    """A callback outside of Resumable stops it: the final state is that of the checkpoint."""
    after, actions = advance(PHASES["replaying"], Event.FIT_ENDS)
    assert after == Over(Progress(1, 2, 2, 9))
    assert actions == (Action.END_REPLAY, Action.SAVE_FINAL)
