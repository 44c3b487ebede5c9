"""Whether a finished fit trains on: the decision as a table, without Keras and without a store."""

from __future__ import annotations

import pytest

from keepfit.callbacks.adapters.stopping import StoppingCallback
from keepfit.callbacks.checkpoint.format.head import Head
from keepfit.callbacks.checkpoint.format.position import Position
from keepfit.callbacks.checkpoint.retention import finished_fits
from keepfit.callbacks.checkpoint.trained_on import (
    baseline_of_training_on,
    is_out_of_date,
    without_fit,
)
from keepfit.callbacks.training.continuation import Further, decide, wants_more
from tests.checkpoint.test_manifest import manifest_with

DONE = 5


def early(**config):
    """Return EarlyStopping as it is recorded."""
    config = {"monitor": "val_loss", "min_delta": 0.0, "patience": 3, **config}
    return StoppingCallback(name="EarlyStopping", config=config, early_stopping=True)


def own(**config):
    """Return a user's own callback as it is recorded."""
    return StoppingCallback(name="Own", config={"limit": 3, **config})


def final(stopped, *recorded, by=(), **position):
    """Return the manifest of a fit that has done 5 epochs."""
    record = {"by": list(by), "callbacks": [one.model_dump() for one in recorded]}
    state = {"stop_training": stopped, "stopping": record}
    place = Position(**{"epoch": DONE - 1, "finished": True, **position})
    return manifest_with(position=place).model_copy(update={"state": state})


RAN, STOPPED = final(False, early()), final(True, early(), by=["EarlyStopping"])
BY_OWN = final(True, early(), own(), by=["Own"])
OLD = final(False).model_copy(update={"state": {"stop_training": True}})
OTHER_DELTA, PATIENT, HASTY = early(min_delta=1.0), early(patience=4), early(patience=2)
CASES = {
    "the same again": (RAN, 5, [early()], Further.AS_IT_IS),
    "fewer": (RAN, 4, [early()], Further.FEWER),
    "more": (RAN, 6, [early()], Further.TRAINS_ON),
    "more, and more patience": (RAN, 6, [PATIENT], Further.TRAINS_ON),
    "more, and less patience": (RAN, 6, [HASTY], Further.UNKNOWABLE),
    "more, and another meaning": (RAN, 6, [OTHER_DELTA], Further.UNKNOWABLE),
    "more, and a new EarlyStopping": (final(False), 6, [early()], Further.UNKNOWABLE),
    "more, without EarlyStopping": (RAN, 6, [], Further.TRAINS_ON),
    "more, and a new callback": (RAN, 6, [early(), own()], Further.TRAINS_ON),
    "less patience": (RAN, 5, [HASTY], Further.EARLIER),
    "another meaning": (RAN, 5, [OTHER_DELTA], Further.EARLIER),
    "stopped, the same again": (STOPPED, 5, [early()], Further.AS_IT_IS),
    "stopped, more": (STOPPED, 6, [early()], Further.STAYS_STOPPED),
    "stopped, more patience": (STOPPED, 9, [PATIENT], Further.DECIDES_ANEW),
    "stopped, more patience only": (STOPPED, 5, [PATIENT], Further.DECIDES_ANEW),
    "stopped, less patience": (STOPPED, 9, [HASTY], Further.EARLIER),
    "stopped, another meaning": (STOPPED, 9, [OTHER_DELTA], Further.UNKNOWABLE),
    "stopped, without EarlyStopping": (STOPPED, 9, [], Further.DECIDES_ANEW),
    "stopped by another": (BY_OWN, 9, [early(), own()], Further.STAYS_STOPPED),
    "stopped by another, which has changed": (
        BY_OWN,
        9,
        [early(), own(limit=4)],
        Further.DECIDES_ANEW,
    ),
    "stopped by another, more patience": (BY_OWN, 9, [PATIENT, own()], Further.STAYS_STOPPED),
    "keepfit 0.1, stopped": (OLD, 9, [early()], Further.STAYS_STOPPED),
    "keepfit 0.1, more": (
        OLD.model_copy(update={"state": {"stop_training": False}}),
        9,
        [early()],
        Further.TRAINS_ON,
    ),
    "a record that is not valid": (
        OLD.model_copy(update={"state": {"stop_training": True, "stopping": [1]}}),
        9,
        [],
        Further.STAYS_STOPPED,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_decision(case):
    """What becomes of a finished fit of 5 epochs with another request."""
    manifest, epochs, stopping, expected = CASES[case]
    assert decide(manifest, epochs, stopping).further is expected
    trains = expected in (Further.TRAINS_ON, Further.DECIDES_ANEW)
    assert wants_more(manifest, epochs, stopping) is trains


def test_an_unfinished_fit_wants_nothing_more():
    """It is resumed in any case."""
    assert not wants_more(final(False, finished=False), 9, [])


def head(**fields):
    """Return HEAD of a run in attempt 4 with three finished fits."""
    keys = {0: "a", 1: "b", 2: "c"}
    given = {"finished": keys, "continuations": {1: "x"}, "checkpoints": ("c", "b"), **fields}
    return Head(run="run", attempt=4, writer="w", swaps=0, **given)


def test_finished_fits_after_a_commit():
    """A fit is finished by its final state, and no longer by a checkpoint within it."""
    end, within = final(False, fit=1), final(False, fit=1, finished=False)
    variables = end.has_variables
    fits = finished_fits(head(), {"new": end}, "y")
    assert fits["finished"] == {0: "a", 2: "c", 1: "new"}
    assert fits["continuations"] == ({1: "y"} if variables else {})
    fits = finished_fits(head(), {"new": within})
    assert fits == {"finished": {0: "a", 2: "c"}, "continuations": {}}


def test_fits_after_one_that_was_trained_on():
    """What older attempts have stored of them is out of date; what newer ones store is not."""
    before = head(baseline={"ended": 3, "0:log.csv": 7, "1:log.csv": 8, "2:log.csv": 9})
    baseline = baseline_of_training_on(before, 1)
    assert baseline == {"ended": 3, "0:log.csv": 7, "1:log.csv": 8, "trained-on:1": 4}
    old = {fit: final(False, fit=fit).model_copy(update={"attempt": 3}) for fit in range(3)}
    assert [is_out_of_date(old[fit], baseline) for fit in old] == [False, False, True]
    new = old[2].model_copy(update={"attempt": 4})
    assert not is_out_of_date(new, baseline)


def test_a_fit_that_begins_again_is_forgotten():
    """None of its checkpoints is named any more, and those of the other fits are."""
    manifests = {key: final(False, fit=fit) for fit, key in head().finished.items()}
    fields = without_fit(head(), 1, manifests)
    assert fields == {"checkpoints": ("c",), "finished": {0: "a", 2: "c"}, "continuations": {}}
